"""Kept out of collection: YAML that is no suite. The plugin itself is installed (see pyproject.toml)."""

collect_ignore = ["tests/harness/suites/malformed"]
