"""What a YAML file is once it is read: values where they stand, and what is wrong with them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

YamlPath = tuple[str | int, ...]
Content = None | bool | int | float | str | list["Node"] | dict[str, "Node"]


class Place(NamedTuple):
    """A line and a column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a file, said in one line."""

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
    """A file that is not YAML as it is taken here."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


_NO_KEYS: Mapping[str, Place] = MappingProxyType({})


class Node(NamedTuple):
    """A value where it stands. ``values`` and ``height`` count what aliases stand for, too.

    A named tuple, since ten thousand cases have hundreds of thousands of them.
    """

    place: Place
    last_line: int
    content: Content
    raw: str = ""  # an unquoted value as it is written: hints quote it
    keys: Mapping[str, Place] = _NO_KEYS
    values: int = 1
    height: int = 0

    @property
    def plain(self) -> Any:
        """As dict, list, str, int, float, bool and None."""
        content = self.content
        if isinstance(content, dict):
            return {key: value.plain for key, value in content.items()}
        if isinstance(content, list):
            return [item.plain for item in content]
        return content


@dataclass(frozen=True, eq=False)
class Source:
    """A YAML file that was read. What an alias stands for has the place where it is written out."""

    text: str
    root: Node

    @property
    def data(self) -> Any:
        """All of it as dict, list, str, int, float, bool and None."""
        return self.root.plain

    def resolve(self, path: YamlPath) -> YamlPath:
        """As much of the path as is there."""
        node = self.root
        for depth, part in enumerate(path):
            child = _child(node, part)
            if child is None:
                return path[:depth]
            node = child
        return path

    def node(self, path: YamlPath) -> Node:
        """What stands at a path; KeyError where nothing does."""
        node = self.root
        for part in path:
            child = _child(node, part)
            if child is None:
                raise KeyError(path)
            node = child
        return node

    def place(self, path: YamlPath) -> Place:
        """Where a value begins."""
        return self.node(path).place

    def key_place(self, path: YamlPath) -> Place:
        """Where the key of a value stands; an item of a list has none, so there it is the item's own place."""
        last = path[-1] if path else 0
        return self.node(path[:-1]).keys[last] if isinstance(last, str) else self.place(path)


def shown_file(path: Path) -> str:
    """A path as a person would type it: from the current directory when it lies below."""
    try:
        return str(Path(os.path.abspath(path)).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def shown_path(path: YamlPath) -> str:
    """``cases[2].limits``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{shortened(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def shortened(text: str, most: int = 60) -> str:
    """Long texts cut, for messages."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def one_line(text: str) -> str:
    """Line breaks and whatever cannot be printed as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def described(node: Node) -> str:
    """A value in a few words, as it is written."""
    content = node.content
    if isinstance(content, dict):
        return "a mapping" if content else "an empty mapping"
    if isinstance(content, str):
        return f"the text `{shortened(content)}`" if content else "an empty text"
    if isinstance(content, list):
        return "a list" if content else "an empty list"
    return shortened(node.raw) or "nothing"


def reads_as(value: Content) -> str:
    """What YAML takes an unquoted word for, in words."""
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
