"""Read YAML files as plain data, together with the position of every value and key, for error messages.

Only a subset of YAML is accepted: a file has one document, without tags, merge keys and duplicate keys, and numbers are
plain decimals. The size of a file, its depth and the expansion of aliases are limited. Every error is a ``Problem``
with a position.
"""

from harness.suites.yaml.reading import read_yaml
from harness.suites.yaml.values import (
    Node,
    Place,
    Problem,
    Source,
    YamlError,
    YamlPath,
    described,
    one_line,
    reads_as,
    shortened,
    shown_file,
    shown_path,
)

__all__ = [
    "Node",
    "Place",
    "Problem",
    "Source",
    "YamlError",
    "YamlPath",
    "described",
    "one_line",
    "read_yaml",
    "reads_as",
    "shortened",
    "shown_file",
    "shown_path",
]
