"""Reference pages, generated from the command line's parsers and the JSON Schema of suites."""
