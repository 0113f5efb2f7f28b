"""YAML in, tests out: what a suite file is, read, checked and expanded."""
