"""Tests of the checks of HTTP responses: fields of the body, which a case names by their path, and headers."""

import json
from typing import Any

import pytest

from harness.cases.behaviour.fields import document_of, wrong_fields, wrong_headers
from harness.suites.schema import Outcome

BODY = {"id": "x", "n": 1, "is": True, "none": None, "choices": [{"text": "ab", "tokens": ["a", "b"]}, {"text": "c"}]}


def wrong(body: Any, **fields: Any) -> list[str]:
    outcome = Outcome.model_validate({"fields": {path.replace("__", "."): value for path, value in fields.items()}})
    return wrong_fields(body if isinstance(body, str) else json.dumps(body), outcome.fields)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", "x"),
        ("none", None),
        ("choices[0].text", "ab"),
        ("choices[-1].text", "c"),
        ("choices[*].text", ["ab", "c"]),
        ("choices[*].tokens[0]", ["a"]),
        ("choices[0].text", {"joined": "choices[0].tokens"}),
        ("id", {"same_as": "id"}),
        ("choices[*].missing", []),
    ],
)
def test_a_field_is_found_by_its_path(path: str, value: Any) -> None:
    assert wrong(BODY, **{path: value}) == []


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("id", "y", 'id is "x", expected "y"'),
        ("is", 1, "is is true, expected 1"),
        ("n", True, "n is 1, expected true"),
        ("choices[*].text", ["ab"], 'choices[*].text is ["ab", "c"], expected ["ab"]'),
        ("choices[2].text", "c", "there is no choices[2].text"),
        ("id.deeper", 1, "there is no id.deeper"),
        ("id", {"same_as": "nowhere"}, "there is no nowhere"),
    ],
)
def test_a_wrong_field_is_one_sentence(path: str, value: Any, says: str) -> None:
    assert wrong(BODY, **{path: value}) == [says]


def test_offsets_are_those_of_texts_in_a_row() -> None:
    body = {"offsets": [0, 2, 3], "tokens": ["ab", "c", "def"], "none": []}
    assert wrong(body, offsets={"offsets_of": "tokens"}, none={"offsets_of": "none"}) == []
    assert wrong(body | {"offsets": [2, 3, 6]}, offsets={"offsets_of": "tokens"})


def test_numbers_may_be_near_the_expected_ones() -> None:
    body = {"one": -1.2345, "list": [1, 2.0004], "text": "1", "true": True}
    assert wrong(body, one={"near": -1.2351}, list={"near": [1.0, 2.0]}) == []
    for path, value in (("one", -1.24), ("list", [1.0]), ("list", [1.0, 2.1]), ("list", 1), ("text", 1), ("true", 1)):
        assert len(wrong(body, **{path: {"near": value}})) == 1
    assert wrong(body, one={"near": 0.5}) == ["one is -1.2345, expected 0.5"]


@pytest.mark.parametrize("body", ["", "hello", "data: {", "data: [1]\n\n"])
def test_what_is_no_json_is_one_sentence(body: str) -> None:
    [says] = wrong(body, id="x")
    assert says.startswith("the body is neither JSON nor server-sent events of JSON: ")


def stream(*chunks: Any, end: str = "data: [DONE]\n\n") -> str:
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end


def chunk(index: int, text: str, ids: list[int], name: str = "x") -> dict[str, Any]:
    return {"id": name, "choices": [{"index": index, "text": text, "token_ids": ids}]}


def test_a_stream_is_an_object_about_its_chunks() -> None:
    chunks = [chunk(1, "c", [1]), chunk(0, "", []), chunk(0, "a", [2]), chunk(1, "", [3]), {"id": "x", "usage": {}}]
    found = document_of(stream(*chunks))
    assert found == {"chunks": chunks, "done": True, "one_id": True, "texts": ["a", "c"], "ahead": [3]}


def test_a_stream_of_a_conversation_has_texts_too() -> None:
    texts = ["a", None, "b"]
    chunks = [{"id": "x", "choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    assert document_of(stream(*chunks))["texts"] == ["ab"]


@pytest.mark.parametrize("end", ["", "data: [DONE]\n\ndata: [DONE]\n\n"])
def test_a_stream_ends_once(end: str) -> None:
    assert document_of(stream(chunk(0, "a", []), chunk(0, "b", [], "y"), end=end)) | {"chunks": None} == {
        "chunks": None,
        "done": False,
        "one_id": False,
        "texts": ["ab"],
        "ahead": [],
    }


def test_a_header_matches_as_a_whole() -> None:
    headers = {"retry-after": "10", "content-type": "text/plain; charset=utf-8"}
    assert wrong_headers(headers, {"Retry-After": r"\d+", "Content-Type": "text/plain.*"}) == []
    assert wrong_headers(headers, {"Retry-After": r"\d", "X-No": ".*"}) == [
        r"the header Retry-After is '10', expected \d",
        "the header X-No is missing",
    ]


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        ({"fields": {"a..b": 1}}, "'a..b' is not a path"),
        ({"fields": {"": 1}}, "'' is not a path"),
        ({"fields": {"a": {"b": 1}}}, "an object must have exactly one key: same_as, joined or offsets_of with a path"),
        ({"fields": {"a": {"near": "1"}}}, "number"),
        ({"headers": {"a": "("}}, "'(' is not a regular expression"),
    ],
)
def test_what_is_written_wrongly_is_refused(outcome: Any, says: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Outcome.model_validate(outcome)
    assert says in str(error.value)
