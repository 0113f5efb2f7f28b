"""Types for the content of a YAML file with the position of each value, and for the mistakes in the file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

YamlPath = tuple[str | int, ...]
Content = None | bool | int | float | str | list["Node"] | dict[str, "Node"]


class Place(NamedTuple):
    """A position in a file: the numbers of the line and of the column. Both are counted from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Problem:
    """One mistake in a file, which is shown on one line.

    ``where`` is the path of the value, such as ``cases[2].limits``. ``what`` says what is wrong, and ``hint`` what to
    do.
    """

    file: Path
    line: int
    column: int
    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        what = f"{self.where}: {self.what}" if self.where else self.what
        text = f"{shown_file(self.file)}:{self.line}:{self.column}: {what}"
        return one_line(f"{text} — {self.hint}" if self.hint else text)


class YamlError(ValueError):
    """The content of a file is not in the accepted subset of YAML. ``problems`` has all mistakes found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


_NO_KEYS: Mapping[str, Place] = MappingProxyType({})


class Node(NamedTuple):
    """A value in a YAML file, with its position in the file.

    ``values`` is the number of values in this value, including itself, and ``height`` how deep they are nested. Both
    include the values of aliases. ``keys`` has the position of each key of a mapping. The class is a named tuple, which
    is faster to create than a dataclass, because ten thousand cases have hundreds of thousands of nodes.
    """

    place: Place
    last_line: int
    content: Content
    raw: str = ""  # The text of an unquoted value as it is in the file, for hints.
    keys: Mapping[str, Place] = _NO_KEYS
    values: int = 1
    height: int = 0

    @property
    def plain(self) -> Any:
        """Return the value without positions, as dict, list, str, int, float, bool or None."""
        content = self.content
        if isinstance(content, dict):
            return {key: value.plain for key, value in content.items()}
        if isinstance(content, list):
            return [item.plain for item in content]
        return content


@dataclass(frozen=True, eq=False)
class Source:
    """The content of a YAML file. A value that is given by an alias has the position of the anchor of the alias."""

    text: str
    root: Node

    @property
    def data(self) -> Any:
        """Return the content of the file without positions, as dict, list, str, int, float, bool or None."""
        return self.root.plain

    def resolve(self, path: YamlPath) -> YamlPath:
        """Return the longest prefix of ``path`` at which the file has a value."""
        node = self.root
        for depth, part in enumerate(path):
            child = _child(node, part)
            if child is None:
                return path[:depth]
            node = child
        return path

    def node(self, path: YamlPath) -> Node:
        """Return the node at ``path``. Raises KeyError if there is none."""
        node = self.root
        for part in path:
            child = _child(node, part)
            if child is None:
                raise KeyError(path)
            node = child
        return node

    def place(self, path: YamlPath) -> Place:
        """Return the position at which a value begins."""
        return self.node(path).place

    def key_place(self, path: YamlPath) -> Place:
        """Return the position of the key of the value at ``path``, or of the value itself if it is in a list."""
        last = path[-1] if path else 0
        return self.node(path[:-1]).keys[last] if isinstance(last, str) else self.place(path)


def shown_file(path: Path) -> str:
    """Return a path for messages, relative to the current directory if the file is in or below this directory."""
    try:
        return str(Path(os.path.abspath(path)).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def shown_path(path: YamlPath) -> str:
    """Return a path in the form ``cases[2].limits``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{shortened(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def shortened(text: str, length: int = 60) -> str:
    """Return ``text``, cut to at most ``length`` characters, for messages."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def one_line(text: str) -> str:
    """Return ``text`` with escapes in place of line breaks and unprintable characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def described(node: Node) -> str:
    """Return a short description of a value for messages, such as ``the text `a` ``."""
    content = node.content
    if isinstance(content, dict):
        return "a mapping" if content else "an empty mapping"
    if isinstance(content, str):
        return f"the text `{shortened(content)}`" if content else "an empty text"
    if isinstance(content, list):
        return "a list" if content else "an empty list"
    return shortened(node.raw) or "nothing"


def reads_as(value: Content) -> str:
    """Return the type that YAML gives to an unquoted word, such as ``a number``."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "a number" if isinstance(value, int | float) else "text"


def _child(node: Node, part: str | int) -> Node | None:
    content, child = node.content, None
    if isinstance(part, str):
        child = content.get(part) if isinstance(content, dict) else None
    elif isinstance(content, list) and 0 <= part < len(content):
        child = content[part]
    return child
