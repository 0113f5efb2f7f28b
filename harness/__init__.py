"""Conformance harness: YAML suites run as pytest tests on an engine, through a driver, and checked step by step."""
