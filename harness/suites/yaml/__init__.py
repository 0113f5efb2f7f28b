"""YAML as people mean it: plain data, and the place of every value and key.

Stricter than YAML: one document, no tags, no merge keys, no key twice, numbers in plain decimals, bounded in size,
depth and in what aliases grow to. What is wrong is a ``Problem`` with a place, never a traceback.
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
