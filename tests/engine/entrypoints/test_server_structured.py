"""Tests of structured outputs over HTTP, through the official client."""

import json
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from tests.helpers.server_process import error_of

MODEL = "tiny-granite"
MESSAGES: list[Any] = [{"role": "user", "content": "What is a list?"}]
PERSON = {
    "type": "object",
    "properties": {"old": {"type": "boolean"}, "size": {"enum": ["s", "m"]}},
    "required": ["old", "size"],
    "additionalProperties": False,
}


def complete(client: OpenAI, structure: object, **more: Any) -> str:
    body = {"structured_outputs": structure, **more}
    prompt = "Return the number of"
    answer = client.completions.create(model=MODEL, prompt=prompt, max_tokens=40, temperature=0, extra_body=body)
    return answer.choices[0].text


def chat(client: OpenAI, **more: Any) -> str:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=60, temperature=0, **more)
    content: str = answer.choices[0].message.content
    return content


def test_each_kind_of_structure(client: OpenAI) -> None:
    assert complete(client, {"choice": ["left", "right"]}) in ("left", "right")
    assert complete(client, {"regex": "[0-9]{3}"}).isdecimal()
    assert json.loads(complete(client, {"json": PERSON, "disable_any_whitespace": True})).keys() == {"old", "size"}
    assert json.loads(complete(client, {"json": json.dumps(PERSON), "disable_any_whitespace": True}))
    assert complete(client, {"grammar": 'start: "a" /[0-9]{2}/ "b"'})[::3] == "ab"
    assert isinstance(json.loads(complete(client, {"json_object": True})), dict)


def test_response_format_of_a_chat(client: OpenAI) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "size", "schema": {"enum": ["s", "m"]}, "strict": True}}
    assert json.loads(chat(client, response_format=schema)) in ("s", "m")
    assert isinstance(json.loads(chat(client, response_format={"type": "json_object"})), dict)
    assert chat(client, response_format={"type": "text"}) == chat(client)


def test_a_stream_follows_the_structure_too(client: OpenAI) -> None:
    body = {"structured_outputs": {"choice": ["größer"]}}
    chunks = client.completions.create(
        model=MODEL, prompt="a", max_tokens=20, temperature=0, stream=True, extra_body=body
    )
    texts = [(chunk.choices[0].text, chunk.choices[0].finish_reason) for chunk in chunks]
    assert ("".join(text for text, _ in texts), texts[-1][1]) == ("größer", "stop")


@pytest.mark.parametrize(
    ("body", "says", "param"),
    [
        ({"structured_outputs": {"regex": "(a"}}, "this regex cannot be compiled", "structured_outputs"),
        ({"structured_outputs": {}}, "needs exactly one of", "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "json_object": True}}, "has regex and json_obj", "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "choice must not be empty", "structured_outputs"),
        ({"structured_outputs": {"json": "[" * 100_000}}, "it is nested too deeply", "structured_outputs"),
        ({"structured_outputs": {"json": 5}}, "must be a JSON schema", "structured_outputs.json"),
        ({"structured_outputs": {"structural_tag": "x"}}, "unrecognized request argument",
         "structured_outputs.structural_tag"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "x"}}}},
         "Invalid type: x", "response_format"),
        ({"response_format": {"type": "json_schema"}}, "Field required", "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "Field required",
         "response_format.json_schema.name"),
        ({"response_format": {"type": "json_schema", "json_schema": 5}}, "json_schema: must be an object",
         "response_format.json_schema"),
        ({"response_format": {"type": "json_object", "foo": 1}}, "unrecognized request argument: response_format.foo",
         "response_format.foo"),
        ({"response_format": {}}, "type is missing: it must be 'text', 'json_object' or 'json_schema'",
         "response_format"),
        ({"response_format": {"type": "structural_tag"}}, "or 'json_schema', not 'structural_tag'", "response_format"),
        ({"response_format": "text"}, "response_format: must be an object", "response_format"),
        ({"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
         "structured_outputs and response_format exclude each other", "response_format"),
    ],
)  # fmt: skip
def test_what_is_refused(client: OpenAI, body: dict[str, Any], says: str, param: str) -> None:
    for stream in (False, True):
        with pytest.raises(BadRequestError) as refused:
            client.completions.create(model=MODEL, prompt="a", stream=stream, extra_body=body)
        assert says in error_of(refused.value)["message"]
        assert error_of(refused.value)["param"] == param


def test_an_answer_that_cannot_go_on_is_an_error_with_the_reason(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="after 1 token the answer cannot be continued") as refused:
        complete(client, {"regex": "a{100000}{100000}"})
    assert error_of(refused.value)["param"] == "structured_outputs"
    assert complete(client, {"choice": ["x"]}) == "x", "the engine serves on"


@pytest.mark.parametrize("field", ["allowed_token_ids", "logit_bias", "stop_token_ids"])
def test_a_token_outside_the_vocabulary_is_refused_by_the_name_of_its_field(client: OpenAI, field: str) -> None:
    value = {"2048": 1} if field == "logit_bias" else [2048]
    with pytest.raises(BadRequestError, match="2048 is outside the vocabulary of 2048") as refused:
        client.completions.create(model=MODEL, prompt="a", extra_body={field: value})
    assert error_of(refused.value)["param"] == field
