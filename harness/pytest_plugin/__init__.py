"""The pytest plugin: it collects suites as tests, runs them on the engine under test, and writes reports."""
