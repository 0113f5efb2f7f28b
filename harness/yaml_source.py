"""YAML as people mean it: plain data, and the place of every value and key.

Stricter than YAML: one document, no tags, no merge keys, no key twice, numbers in plain decimals, bounded in size,
depth and in what aliases grow to. What is wrong is a ``Problem`` with a place, never a traceback.

The parser's events are put together here and not by its own ``compose``, which recurses as deep as the file says
and forgets which key was there first.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

MAX_BYTES = 2_000_000
MAX_DEPTH = 40
MAX_VALUES = 100_000
MAX_DIGITS = 100

YamlPath = tuple[str | int, ...]
Content = None | bool | int | float | str | list["Node"] | dict[str, "Node"]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, order=True)
class Place:
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


@dataclass(frozen=True, eq=False)
class Node:
    """A value where it stands. ``values`` and ``height`` count what aliases stand for, too."""

    place: Place
    last_line: int
    content: Content
    raw: str = ""  # an unquoted value as it is written: hints quote it
    keys: Mapping[str, Place] = field(default_factory=dict)
    values: int = 1
    height: int = 0


@dataclass(frozen=True, eq=False)
class Source:
    """A YAML file that was read. What an alias stands for has the place where it is written out."""

    text: str
    root: Node

    @property
    def data(self) -> Any:
        """All of it as dict, list, str, int, float, bool and None."""
        return _plain(self.root)

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


def read_yaml(path: Path) -> Source:
    """Read a YAML file. Raises YamlError for what stands in it, OSError where it cannot be read."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise YamlError([Problem(path, 1, 1, "", f"is larger than {MAX_BYTES:,} bytes", "split it into several files")])
    return _Composer(path, _decode(path, data)).source()


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


def _open_without_waiting(path: str, flags: int) -> int:
    # A named pipe would otherwise wait for a writer for ever.
    return os.open(path, flags | os.O_NONBLOCK)


# Control characters; and U+0085, U+2028 and U+2029, line breaks to YAML 1.1 but not to editors: lines would not agree.
_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def _decode(path: Path, data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise YamlError([Problem(path, 1, 1, "", "is UTF-16, not UTF-8", "save it as UTF-8")])
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        place = _end_of(data[: error.start].decode("utf-8").removeprefix("\ufeff"))
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise YamlError([Problem(path, place.line, place.column, "", what, "save the file as UTF-8")]) from error
    if bad := _UNPRINTABLE.search(text):
        place = _end_of(text[: bad.start()])
        code = ord(bad.group())
        escape = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
        hint = f'in a text write it as an escape: "{escape}"'
        what = f"the character U+{code:04X} cannot stand in a file"
        raise YamlError([Problem(path, place.line, place.column, "", what, hint)])
    return text


def _end_of(text: str) -> Place:
    lines = re.split(r"\r\n|\r|\n", text)
    return Place(len(lines), len(lines[-1]) + 1)


_WORDS: dict[str, bool | None] = {
    spelling: value
    for word, value in (
        *(("", None), ("~", None), ("null", None)),
        *(("true", True), ("yes", True), ("on", True)),
        *(("false", False), ("no", False), ("off", False)),
    )
    for spelling in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# A number or a date to one reader of YAML, a text or another number to the next: nobody's guess is taken.
_AMBIGUOUS = {
    "an octal number": re.compile(r"[-+]?0o?[0-9_]+"),
    "a hexadecimal number": re.compile(r"[-+]?0x[0-9a-fA-F_]+"),
    "a binary number": re.compile(r"[-+]?0b[01_]+"),
    "a number": re.compile(r"[-+]?(?=[^_]*_)[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?"),
    "a number in base 60": re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
    "a date": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t][-+0-9:.Zz \t]*)?"),
}


def _meaning(raw: str) -> tuple[Content, str, str]:
    """What an unquoted word stands for, what is wrong with it if anything is, and a hint."""
    if raw in _WORDS:
        return _WORDS[raw], "", ""
    for meaning, form in _AMBIGUOUS.items():
        if form.fullmatch(raw):
            cure = "quote it" if meaning == "a date" else "write it in plain decimals, or quote it"
            return raw, f"cannot be the unquoted `{shortened(raw)}`", f"YAML reads this as {meaning}; {cure}"
    if not _FLOAT.fullmatch(raw):
        return raw, "", ""
    if len(raw) > MAX_DIGITS:
        return raw, f"is a number of {len(raw)} digits, and {MAX_DIGITS} are the most", "quote it if it is text"
    if _INTEGER.fullmatch(raw):
        return int(raw), "", ""
    return float(raw.lower().replace(".inf", "inf").replace(".nan", "nan")), "", ""


_TAB = ("a tab cannot indent", "indent with spaces")
_TAG = ("a tag (`!…`) cannot stand here", "leave it out; quote what is to be text")
_MERGE = ("merge keys (`<<`) cannot stand here", "write its keys out; `*name` stands for a whole value")
_NO_CHARACTER = ("an escape in this text is no character", "half of a surrogate pair, or beyond U+10FFFF")


class _Composer:
    """Events in, nodes out. Goes on after a wrong value, to tell them all at once, but not after broken syntax."""

    def __init__(self, file: Path, text: str) -> None:
        self.file = file
        self.text = text
        self.events: Iterator[yaml.Event] = iter(())
        self.anchors: dict[str, tuple[Place, Node | None]] = {}  # without a node while it is being read
        self.depth = 0
        self.values = 0  # so far, with what aliases stand for
        self.last_line = 1  # of the value read last
        self.problems: list[Problem] = []

    def source(self) -> Source:
        try:
            self.events = yaml.parse(self.text, Loader=_Loader)
            root = self._document()
        except YamlError:
            raise
        except yaml.MarkedYAMLError as error:
            self._stop(*_broken_syntax(error, self.text))
        except (yaml.YAMLError, ValueError) as error:
            self._stop(Place(1, 1), f"is not YAML: {error}", _SEE)
        if self.problems:
            raise YamlError(self.problems)
        return Source(self.text, root)

    def _document(self) -> Node:
        next(self.events)  # the start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            self._stop(
                Place(1, 1), "is empty", "a suite has `suite`, `kind` and `cases`; delete the file if it is none"
            )
        root = self._node(next(self.events), ())
        next(self.events)  # the end of the document
        after = next(self.events)
        if isinstance(after, yaml.DocumentStartEvent):
            self._stop(_place(after.start_mark), "a second document begins here", "put it into a file of its own")
        return root

    def _node(self, event: yaml.Event, path: YamlPath) -> Node:
        place = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), place, path)
        assert isinstance(event, yaml.NodeEvent)
        self._open_anchor(event.anchor, place, path)
        self._count(1, place, path)
        if getattr(event, "tag", None) is not None:
            self._wrong(place, *_TAG, path)
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, place, path)
        else:
            assert isinstance(event, yaml.CollectionStartEvent)
            node = self._collection(event, place, path)
        if event.anchor:
            self.anchors[event.anchor] = (place, node)
        return node

    def _open_anchor(self, name: str | None, place: Place, path: YamlPath) -> None:
        if name in self.anchors:
            what = f"the anchor `&{name}` is there already, on line {self.anchors[name][0].line}"
            self._stop(place, what, "give it another name", path)
        if name:
            self.anchors[name] = (place, None)

    def _alias(self, name: str, place: Place, path: YamlPath) -> Node:
        self.last_line = place.line
        if name not in self.anchors:
            self._stop(place, f"there is no anchor `&{name}` before this", f"write `&{name}` before the value", path)
        node = self.anchors[name][1]
        if node is None:
            self._stop(place, f"`*{name}` stands within what it stands for", "write out what is meant", path)
        self._count(node.values, place, path)
        self._check_depth(node.height, place, path)
        return node

    def _scalar(self, event: yaml.ScalarEvent, place: Place, path: YamlPath) -> Node:
        end = _place(event.end_mark)
        # A block of text ends where the next line begins.
        self.last_line = max(place.line, end.line - (end.column == 1))
        if any("\ud800" <= c <= "\udfff" for c in event.value):
            self._wrong(place, *_NO_CHARACTER, path)
        if event.style or event.tag is not None:
            return Node(place, self.last_line, event.value)
        content, what, hint = _meaning(event.value)
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
            place = _place(event.start_mark)
            key = self._key(event, place, path)
            value = self._node(next(self.events), path if key is None else (*path, key))
            if key in keys:
                self._wrong(place, f"is given twice; the first is on line {keys[key].line}", "keep one", (*path, key))
            elif key is not None:
                entries[key], keys[key] = value, place
        return entries

    def _key(self, event: yaml.Event, place: Place, path: YamlPath) -> str | None:
        problems = len(self.problems)
        key = self._node(event, path)
        if key.raw == "<<":
            self._wrong(place, *_MERGE, path)
            return None
        if not isinstance(key.content, str):
            hint = f"YAML reads `{key.raw}` as {reads_as(key.content)}; quote it" if key.raw else "write a word"
            self._wrong(place, f"a key must be text, not {described(key)}", hint, path)
        return key.content if isinstance(key.content, str) and len(self.problems) == problems else None

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        while not isinstance(event := next(self.events), end):
            yield event
        if _place(event.end_mark) > _place(event.start_mark):  # a bracket: the end of a block takes no room
            self.last_line = _place(event.end_mark).line

    def _count(self, values: int, place: Place, path: YamlPath) -> None:
        self.values += values
        if self.values > MAX_VALUES:
            what = f"more than {MAX_VALUES:,} values, counting what aliases stand for"
            self._stop(place, what, "split it into several files", path)

    def _check_depth(self, more: int, place: Place, path: YamlPath) -> None:
        if self.depth + more > MAX_DEPTH:
            self._stop(place, f"nested more than {MAX_DEPTH} deep", "a suite needs no more than ten", path[:3])

    def _wrong(self, place: Place, what: str, hint: str, path: YamlPath) -> None:
        self.problems.append(Problem(self.file, place.line, place.column, shown_path(path), what, hint))

    def _stop(self, place: Place, what: str, hint: str = "", path: YamlPath = ()) -> NoReturn:
        self._wrong(place, what, hint, path)
        raise YamlError(self.problems)


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _child(node: Node, part: str | int) -> Node | None:
    content = node.content
    if isinstance(part, str):
        return content.get(part) if isinstance(content, dict) else None
    if isinstance(content, list) and 0 <= part < len(content):
        return content[part]
    return None


def _plain(node: Node) -> Any:
    content = node.content
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(item) for item in content]
    return content


_SEE = "see docs/writing-cases.md for a suite to start from"


def _broken_syntax(error: yaml.MarkedYAMLError, text: str) -> tuple[Place, str, str]:
    """The parser's complaint in plain words, at the place where it is to be cured."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Place(1, 1), f"is not YAML: {error.problem}", _SEE
    place = _place(mark)
    began = _place(error.context_mark) if error.context_mark else place
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    indentation = line[: len(line) - len(line.lstrip())]
    if "\t" in indentation and mark.column <= len(indentation):
        return Place(place.line, indentation.index("\t") + 1), *_TAB
    problem, context = str(error.problem), str(error.context)
    at_end = not "".join(lines[mark.line :])[mark.column :].strip()
    if "flow" in context:
        closing = "`]`" if "sequence" in context else "`}`"
        if at_end:
            return began, f"there is no {closing} for this bracket", f"write {closing} where the list or mapping ends"
        hint = f"the bracket opens at line {began.line}, column {began.column}"
        return place, f"`,` or {closing} expected here", hint
    if "quoted scalar" in context and ("end of stream" in problem or "document" in problem):
        return began, "there is no end to this quote", "close it; within single quotes write '' for one"
    if "Unicode character escape" in problem:
        return began, *_NO_CHARACTER
    if "unknown escape" in problem:
        return began, "unknown escape after `\\` in double quotes", "write `\\\\`, or use single quotes"
    if "mapping values" in problem:
        return place, "`:` cannot stand here", "quote a text that holds `: `; see that keys of a mapping line up"
    if "entries are not allowed" in problem:
        return place, "a list cannot begin here", "begin it on a line of its own, or write [a, b]"
    if "cannot start any token" in problem:
        return place, f"a value cannot begin with `{line[mark.column : mark.column + 1]}`", "quote it"
    if "block mapping" in context or "block collection" in context or "<document start>" in problem:
        of = "mapping" if "mapping" in context else "list"
        before = "what stands before it" if context == "None" else f"the {of} that began on line {began.line}"
        what = f"does not fit {before}"
        return place, what, "check the indentation, and that nothing follows a closing quote or bracket"
    if "tag" in problem or "tag" in context:
        return place, *_TAG
    return place, f"is not YAML: {problem}", _SEE
