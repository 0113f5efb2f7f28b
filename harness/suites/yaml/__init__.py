"""Read YAML files as plain data, with the position of every value and key.

Stricter than YAML: one document, no tags, no merge keys, no duplicate keys, numbers in plain decimals only; size, depth
and the expansion of aliases are limited. Every error is a ``Problem`` with a position, never a traceback.
"""

from harness.suites.yaml.reading import read_ordinary, read_yaml
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
    "read_ordinary",
    "read_yaml",
    "reads_as",
    "shortened",
    "shown_file",
    "shown_path",
]
