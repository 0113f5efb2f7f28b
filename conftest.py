"""Exclude a folder from pytest's collection: its YAML files are suites with mistakes, which tests load.

The pytest plugin is not loaded here, because it is an entry point of the installed package (see pyproject.toml).
"""

collect_ignore = ["tests/harness/suites/malformed"]
