"""Read suites (YAML files with test cases), validate them, and expand them to tests."""
