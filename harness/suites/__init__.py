"""Read suites, which are YAML files, validate them, and expand them to tests."""
