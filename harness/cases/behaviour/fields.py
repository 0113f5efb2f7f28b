"""Look up fields of JSON responses by path, and compare them with expected values.

A stream of server-sent events is first converted to one JSON object.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from harness.suites.schema import MARGIN, Expected, Joined, Near, OffsetsOf, SameAs

_PART = re.compile(r"\.?([A-Za-z_][\w-]*)|\[(-?\d+|\*)\]")
_EVENT = "data: "
_END = "[DONE]"


class NoFieldError(LookupError):
    """A response has no value at a path. The message is a clause that contains the path."""


def document_of(body: str) -> Any:
    """Return the body of a response as a JSON value. If the body is server-sent events, the value is a dict.

    The keys of the dict are ``chunks`` (the JSON of each event), ``done`` (whether ``[DONE]`` occurs once, at the end),
    ``one_id`` (whether all chunks have the same id), ``texts`` (the text of each choice, joined from its chunks) and
    ``ahead`` (positions of the chunks that have token ids, but no text). Raises ValueError if the body is not JSON, and
    KeyError, AttributeError or TypeError if a chunk does not have the form of OpenAI's API.
    """
    if not body.startswith(_EVENT):
        return json.loads(body)
    events = [event.removeprefix(_EVENT) for event in body.split("\n\n") if event]
    chunks = [json.loads(event) for event in events if event != _END]
    choices = [(number, choice) for number, chunk in enumerate(chunks) for choice in chunk.get("choices", ())]
    return {
        "chunks": chunks,
        "done": events[-1:] == [_END] and events.count(_END) == 1,
        "one_id": len({str(chunk.get("id")) for chunk in chunks}) == 1,
        "texts": _texts(choice for _, choice in choices),
        "ahead": [number for number, choice in choices if choice.get("token_ids") and not _text(choice)],
    }


def _text(choice: Mapping[str, Any]) -> str:
    text = choice["delta"].get("content") if "delta" in choice else choice.get("text")
    return text if isinstance(text, str) else ""


def _texts(choices: Iterable[Mapping[str, Any]]) -> list[str]:
    texts: dict[int, str] = {}
    for choice in choices:
        texts[choice["index"]] = texts.get(choice["index"], "") + _text(choice)
    return [texts[index] for index in sorted(texts)]


def wrong_fields(body: str, expected: Mapping[str, Expected]) -> list[str]:
    """Return an error message for each field of a response that is missing or does not have the expected value.

    ``expected`` maps the path of a field, such as ``choices[0].text``, to its expected value.
    """
    if not expected:
        return []
    try:
        document = document_of(body)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        return [f"the body is neither JSON nor server-sent events of JSON: {type(error).__name__}: {error}"]
    wrong = []
    for path, value in expected.items():
        try:
            seen, wanted = at(document, path), _expected_value(document, value)
        except NoFieldError as error:
            wrong.append(str(error))
            continue
        if not (near(seen, wanted) if isinstance(value, Near) else same(seen, wanted)):
            wrong.append(f"{path} is {shown(seen)}, expected {shown(wanted)}")
    return wrong


def at(document: Any, path: str) -> Any:
    """Return the value at a path such as ``choices[0].text`` or ``chunks[*].id``.

    ``[*]`` stands for every entry of a list, or every value of an object in the order of its keys. The part of the path
    after ``[*]`` is looked up in each of them, and the result is the list of the values found; those in which it is
    missing are skipped. Raises NoFieldError if there is no value at the path.
    """
    parts: list[str] = [name or index for name, index in _PART.findall(path)]
    return _follow(document, parts, path)


def _follow(value: Any, parts: Sequence[str], path: str) -> Any:
    if not parts:
        return value
    first, *rest = parts
    if first == "*" and isinstance(value, list | dict):
        entries = value.values() if isinstance(value, dict) else value
        return [found for each in entries for found in _found(each, rest, path)]
    try:
        inner = value[int(first)] if isinstance(value, list) else value[first]
    except (LookupError, TypeError, ValueError):
        raise NoFieldError(f"there is no {path}") from None
    return _follow(inner, rest, path)


def _found(value: Any, parts: Sequence[str], path: str) -> list[Any]:
    try:
        return [_follow(value, parts, path)]
    except NoFieldError:
        return []


def _expected_value(document: Any, value: Expected) -> Any:
    """Return the expected value of a field as JSON.

    ``value`` is either this JSON value, or an object that says how to compute it from other fields of ``document``.
    """
    match value:
        case SameAs():
            return at(document, value.same_as)
        case Joined():
            return "".join(map(str, at(document, value.joined)))
        case OffsetsOf():
            lengths = [len(text) for text in at(document, value.offsets_of)]
            return list(accumulate(lengths[:-1], initial=0)) if lengths else []
        case Near():
            return value.near
    return value


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal. Unlike in Python, ``true`` does not equal ``1``."""
    if isinstance(one, list) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def near(one: Any, other: float | Sequence[float]) -> bool:
    """Return whether ``one`` is a number that differs from ``other`` by at most MARGIN, or a list of such numbers."""
    if isinstance(other, Sequence):
        return isinstance(one, list) and len(one) == len(other) and all(map(near, one, other))
    return isinstance(one, int | float) and not isinstance(one, bool) and abs(one - other) <= MARGIN


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:199]}…"


def wrong_headers(headers: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Return an error message for each expected header that is missing or whose value does not match.

    ``expected`` maps the name of a header to the regular expression that the whole value must match.
    """
    wrong = []
    for name, pattern in expected.items():
        value = headers.get(name.lower())
        if value is None:
            wrong.append(f"the header {name} is missing")
        elif not re.fullmatch(pattern, value):
            wrong.append(f"the header {name} is {value!r}, expected {pattern}")
    return wrong
