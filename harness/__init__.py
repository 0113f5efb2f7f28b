"""The conformance harness: it runs YAML suites as pytest tests on an engine, through a driver, and checks each step."""
