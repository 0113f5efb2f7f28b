"""Read, validate and expand suites: YAML in, tests out."""
