"""Build nodes with positions from the events of PyYAML's parser.

PyYAML's own ``compose`` has no limit for the depth of a file, and does not detect duplicate keys.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from harness.suites.yaml.scalars import meaning
from harness.suites.yaml.syntax import MERGE, NO_CHARACTER, SEE, TAG, broken_syntax, place_of
from harness.suites.yaml.values import (
    Node,
    Place,
    Problem,
    Source,
    YamlError,
    YamlPath,
    described,
    reads_as,
    shown_path,
)

MAX_DEPTH = 40
MAX_VALUES = 100_000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Composer:
    """Builds the nodes of a file from the parser's events.

    The composer continues after an invalid value, to report all invalid values, and stops at a syntax error.
    """

    def __init__(self, file: Path, text: str) -> None:
        self.file = file
        self.text = text
        self.events: Iterator[yaml.Event] = iter(())
        self.anchors: dict[str, tuple[Place, Node | None]] = {}  # The node is None until it has been read.
        self.depth = 0
        self.values = 0  # The number of values so far, including those of aliases.
        self.last_line = 1  # The last line of the last value.
        self.problems: list[Problem] = []

    def source(self) -> Source:
        """Return the content of the file. Raises YamlError with all problems that were found."""
        try:
            self.events = yaml.parse(self.text, Loader=_Loader)
            root = self._document()
        except YamlError:
            raise
        except yaml.MarkedYAMLError as error:
            self._stop(*broken_syntax(error, self.text))
        except (yaml.YAMLError, ValueError) as error:
            self._stop(Place(1, 1), f"this file is not YAML: {error}", SEE)
        if self.problems:
            raise YamlError(self.problems)
        return Source(self.text, root)

    def _document(self) -> Node:
        next(self.events)  # This event is the start of the stream.
        if isinstance(next(self.events), yaml.StreamEndEvent):
            self._stop(
                Place(1, 1),
                "this file is empty",
                "a suite has `suite`, `kind` and `cases`; delete the file if it is not a suite",
            )
        root = self._node(next(self.events), ())
        next(self.events)  # This event is the end of the document.
        after = next(self.events)
        if isinstance(after, yaml.DocumentStartEvent):
            what = "a second YAML document begins here"
            self._stop(place_of(after.start_mark), what, "put it into a separate file")
        return root

    def _node(self, event: yaml.Event, path: YamlPath) -> Node:
        place = place_of(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), place, path)
        assert isinstance(event, yaml.NodeEvent)
        if event.anchor:
            self._open_anchor(event.anchor, place, path)
        self._count(1, place, path)
        if getattr(event, "tag", None) is not None:
            self._wrong(place, *TAG, path)
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, place, path)
        else:
            assert isinstance(event, yaml.CollectionStartEvent)
            node = self._collection(event, place, path)
        if event.anchor:
            self.anchors[event.anchor] = (place, node)
        return node

    def _open_anchor(self, name: str, place: Place, path: YamlPath) -> None:
        if name in self.anchors:
            what = f"the anchor `&{name}` is already defined on line {self.anchors[name][0].line}"
            self._stop(place, what, "use another name", path)
        self.anchors[name] = (place, None)

    def _alias(self, name: str, place: Place, path: YamlPath) -> Node:
        self.last_line = place.line
        if name not in self.anchors:
            what = f"there is no anchor `&{name}` before the alias `*{name}`"
            self._stop(place, what, f"write `&{name}` before the value that the alias stands for", path)
        node = self.anchors[name][1]
        if node is None:
            self._stop(place, f"`*{name}` is an alias inside its own anchor", "write out the value", path)
        self._count(node.values, place, path)
        self._check_depth(node.height, place, path)
        return node

    def _scalar(self, event: yaml.ScalarEvent, place: Place, path: YamlPath) -> Node:
        end = place_of(event.end_mark)
        # PyYAML's end mark of a block scalar is the start of the line after it.
        self.last_line = max(place.line, end.line - (end.column == 1))
        if _SURROGATE.search(event.value):
            self._wrong(place, *NO_CHARACTER, path)
        if event.style or event.tag is not None:
            return Node(place, self.last_line, event.value)
        content, what, hint = meaning(event.value)
        if what:
            self._wrong(place, what, hint, path)
        return Node(place, self.last_line, content, event.value)

    def _collection(self, start: yaml.CollectionStartEvent, place: Place, path: YamlPath) -> Node:
        before = self.values - 1
        self._check_depth(1, place, path)
        self.depth += 1
        keys: dict[str, Place] = {}
        content: list[Node] | dict[str, Node]
        if isinstance(start, yaml.SequenceStartEvent):
            content = [self._node(event, (*path, i)) for i, event in enumerate(self._until(yaml.SequenceEndEvent))]
        else:
            content = self._entries(path, keys)
        self.depth -= 1
        children = content.values() if isinstance(content, dict) else content
        height = 1 + max((child.height for child in children), default=0)
        return Node(place, self.last_line, content, "", keys, self.values - before, height)

    def _entries(self, path: YamlPath, keys: dict[str, Place]) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for event in self._until(yaml.MappingEndEvent):
            place = place_of(event.start_mark)
            key = self._key(event, place, path)
            value = self._node(next(self.events), path if key is None else (*path, key))
            if key in keys:
                what = f"this key is given twice; the first is on line {keys[key].line}"
                self._wrong(place, what, "keep one of them", (*path, key))
            elif key is not None:
                entries[key], keys[key] = value, place
        return entries

    def _key(self, event: yaml.Event, place: Place, path: YamlPath) -> str | None:
        problems = len(self.problems)
        key = self._node(event, path)
        if key.raw == "<<":
            self._wrong(place, *MERGE, path)
            return None
        if not isinstance(key.content, str):
            hint = f"YAML reads `{key.raw}` as {reads_as(key.content)}; quote it" if key.raw else "use text as key"
            self._wrong(place, f"a key must be text, not {described(key)}", hint, path)
        return key.content if isinstance(key.content, str) and len(self.problems) == problems else None

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        while not isinstance(event := next(self.events), end):
            yield event
        if place_of(event.end_mark) > place_of(
            event.start_mark
        ):  # The end is a bracket. The end of a block has no width.
            self.last_line = place_of(event.end_mark).line

    def _count(self, values: int, place: Place, path: YamlPath) -> None:
        self.values += values
        if self.values > MAX_VALUES:
            what = f"the file has more than {MAX_VALUES:,} values, including those of aliases"
            self._stop(place, what, "split it into several files", path)

    def _check_depth(self, more: int, place: Place, path: YamlPath) -> None:
        if self.depth + more > MAX_DEPTH:
            what = f"lists and mappings are nested more than {MAX_DEPTH} deep"
            self._stop(place, what, "a suite needs no more than ten levels", path[:3])

    def _wrong(self, place: Place, what: str, hint: str, path: YamlPath) -> None:
        self.problems.append(Problem(self.file, place.line, place.column, shown_path(path), what, hint))

    def _stop(self, place: Place, what: str, hint: str = "", path: YamlPath = ()) -> NoReturn:
        self._wrong(place, what, hint, path)
        raise YamlError(self.problems)
