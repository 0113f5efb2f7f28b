"""Tests of structured outputs: tokens that a grammar allows, parameters of requests, and invalid structures."""

import json
from typing import Any

import pytest
import torch

from checkpoints import resolve
from engine.config import EngineConfig
from engine.entrypoints.llm import LLM
from engine.grammars import Grammars, without_extra_properties
from engine.model.grammar_masks import constrained
from engine.model.logits import processed
from engine.request import FinishReason, Request, SamplingParams, TokenOutput
from engine.sequence import SequenceState
from engine.simulation import simulated_core
from engine.structured_outputs import SamplingParamsError, StructuredOutputsError, StructuredOutputsParams
from engine.tokenizer import Tokenizer
from tests.helpers.engine import is_one_sentence
from tests.helpers.narrow import present

EOS = 0


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(resolve("tiny-granite"))


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer)


def structure(**params: Any) -> StructuredOutputsParams:
    return StructuredOutputsParams(**params)


def sequence(grammars: Grammars, params: StructuredOutputsParams | None, **more: Any) -> SequenceState:
    request = Request("a", (5,), SamplingParams(temperature=0, max_tokens=50, structured_outputs=params, **more))
    state = SequenceState(request, frozenset({EOS}), None, max_model_len=512)
    state.grammar = grammars.start(params) if params else None
    return state


def allowed_texts(state: SequenceState, tokenizer: Tokenizer) -> set[str]:
    assert state.grammar is not None
    mask = state.grammar.allowed()
    assert mask is not None
    return {tokenizer.decode([token_id], skip_special_tokens=False) for token_id in mask.nonzero()[0].tolist()}


def test_a_mask_has_the_tokens_that_may_come_and_follows_what_was_generated(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    state = sequence(grammars, structure(choice=("yes", "no")))
    assert allowed_texts(state, tokenizer) == {"y", "n"}
    assert not state.append(TokenOutput(tokenizer.encode("n")[0]))
    assert allowed_texts(state, tokenizer) == {"o"}
    state.append(TokenOutput(tokenizer.encode("o")[0]))
    assert allowed_texts(state, tokenizer) == {"<|end_of_text|>"}, "only EOS can end the answer"
    assert state.append(TokenOutput(EOS))
    assert state.finish_reason is FinishReason.STOP


def test_anything_may_come_after_eos(grammars: Grammars, tokenizer: Tokenizer) -> None:
    state = sequence(grammars, structure(choice=("n",)), ignore_eos=True)
    for token_id in (tokenizer.encode("n")[0], EOS):
        assert not state.append(TokenOutput(token_id))
    assert present(state.grammar).allowed() is None


def test_eos_may_come_where_an_answer_may_end_and_go_on(grammars: Grammars, tokenizer: Tokenizer) -> None:
    state = sequence(grammars, structure(regex="[0-9]+"))
    assert "<|end_of_text|>" not in allowed_texts(state, tokenizer)
    state.append(TokenOutput(tokenizer.encode("7")[0]))
    assert {"<|end_of_text|>", "7"} <= allowed_texts(state, tokenizer)


def test_rows_are_masked_by_their_own_grammars_and_free_rows_not_at_all(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    logits = torch.randn(3, tokenizer.vocabulary_size + 8)
    before = logits.clone()
    digits, letters = structure(regex="[0-9]+"), structure(regex="[a-f]+")
    masked = constrained(logits, [sequence(grammars, digits), sequence(grammars, None), sequence(grammars, letters)])
    assert torch.equal(logits, before), "the logits of the model stay"
    assert torch.equal(masked[1], before[1])
    for row, pattern in ((0, "0123456789"), (2, "abcdef")):
        possible = masked[row].isfinite().nonzero().flatten().tolist()
        assert possible
        assert all(set(tokenizer.decode([token_id])) <= set(pattern) for token_id in possible)
        assert torch.equal(masked[row][possible], before[row][possible])


def test_nothing_is_copied_where_no_request_has_a_grammar(grammars: Grammars) -> None:
    logits = torch.zeros(1, 2048)
    assert constrained(logits, [sequence(grammars, None)]) is logits


def test_min_tokens_holds_eos_off_only_while_something_else_is_possible(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    state = sequence(grammars, structure(regex="[0-9]{1,2}"), min_tokens=9)
    for _ in range(2):
        logits = processed(constrained(torch.zeros(1, 2048), [state]), [state])[0]
        assert logits[EOS] == -torch.inf
        state.append(TokenOutput(int(logits.argmax())))
    logits = processed(constrained(torch.zeros(1, 2048), [state]), [state])[0]
    assert logits.isfinite().nonzero().flatten().tolist() == [EOS]


def test_a_structure_is_compiled_once_for_all_its_requests(
    grammars: Grammars, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = structure(regex="[a-z]{3}[0-9]{3}")
    first = sequence(grammars, params)
    monkeypatch.setattr("engine.grammars.grammar_text", lambda params: pytest.fail("compiled again"))
    second = sequence(grammars, params)
    for letter in "abc":
        first.append(TokenOutput(tokenizer.encode(letter)[0]))
    assert "0" in allowed_texts(first, tokenizer)
    assert "0" not in allowed_texts(second, tokenizer)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"regex": "(a"}, "this regex cannot be compiled"),
        ({"json": "{"}, "this json cannot be compiled: Expecting property name"),
        ({"json": "[" * 100_000}, "this json cannot be compiled: it is nested too deeply"),
        ({"json": '{"items":' * 400 + "{}" + "}" * 400}, "this json cannot be compiled: recursion limit exceeded"),
        ({"json": f'{{"const": {"9" * 5000}}}'}, "this json cannot be compiled: a number has too many digits"),
        ({"json": {"type": "objekt"}}, "Invalid type: objekt"),
        ({"json": {"$ref": "#/$defs/x"}}, "'/$defs/x' does not exist"),
        ({"json": {"allOf": [{"type": "string"}, {"type": "integer"}]}}, "Unsatisfiable schema"),
        ({"json": {"not": {"type": "string"}}}, 'Unimplemented keys: ["not"]'),
        ({"grammar": "start: missing"}, 'unknown name: "missing"'),
    ],
)
def test_what_cannot_be_compiled_is_told_with_the_reason(grammars: Grammars, params: dict[str, Any], says: str) -> None:
    with pytest.raises(StructuredOutputsError, match="structured_outputs: ") as refused:
        grammars.check(structure(**params))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "needs exactly one of json, regex, choice, grammar, json_object, but has none of them"),
        ({"regex": "a", "choice": ("a",)}, "but has regex and choice"),
        ({"choice": ()}, "choice must not be empty"),
        ({"json": " "}, "json must not be empty"),
        ({"grammar": "  "}, "grammar must not be empty"),
        ({"json_object": False}, "json_object must be true, or left out"),
    ],
)
def test_exactly_one_structure_is_given(params: dict[str, Any], says: str) -> None:
    with pytest.raises(StructuredOutputsError) as refused:
        structure(**params)
    assert says in str(refused.value)
    assert is_one_sentence(str(refused.value))


def test_golden_tokens_must_fit_the_structure(grammars: Grammars, tokenizer: Tokenizer) -> None:
    yes = tokenizer.encode("yes")
    grammars.check(structure(choice=("yes",)), (*yes, EOS, 77))
    with pytest.raises(SamplingParamsError, match="does not allow token id 77 at index 0"):
        grammars.check(structure(choice=("yes",)), (77,))


def test_a_grammar_that_cannot_go_on_ends_its_request_with_an_error(grammars: Grammars, tokenizer: Tokenizer) -> None:
    state = sequence(grammars, structure(regex="a{100000}{100000}"))
    assert allowed_texts(state, tokenizer) == {"a"}
    assert state.append(TokenOutput(tokenizer.encode("a")[0]))
    assert state.finish_reason is FinishReason.ERROR
    reason = "lexer error: too many expressions constructed"
    assert present(state.grammar).error == f"after 1 token the answer cannot be continued: {reason}"


@pytest.mark.parametrize("params", [{"grammar": "start: start"}, {"regex": r"[^\s\S]"}])
def test_a_grammar_that_allows_nothing_has_an_error_before_the_first_token(
    grammars: Grammars, tokenizer: Tokenizer, params: dict[str, str]
) -> None:
    state = sequence(grammars, structure(**params))
    assert allowed_texts(state, tokenizer) == {"<|end_of_text|>"}
    assert state.append(TokenOutput(7))
    reason = "the grammar allows no token here, and no end"
    assert present(state.grammar).error == f"after 0 tokens the answer cannot be continued: {reason}"


def test_a_token_that_does_not_fit_ends_its_request_with_an_error(grammars: Grammars) -> None:
    state = sequence(grammars, structure(choice=("yes",)))
    assert state.append(TokenOutput(77))
    assert state.finish_reason is FinishReason.ERROR


def test_without_llguidance_the_error_tells_what_to_install(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance.hf", None)
    with pytest.raises(StructuredOutputsError, match=r"pip install 'spyre-cb\[structured\]'"):
        Grammars(tokenizer).check(structure(choice=("a",)))


def test_an_engine_without_a_tokenizer_refuses_structures() -> None:
    core = simulated_core(EngineConfig())
    with pytest.raises(StructuredOutputsError, match="needs a tokenizer, which this engine"):
        core.add_request(Request("a", (5,), SamplingParams(structured_outputs=structure(choice=("a",)))))


def test_objects_are_closed_where_they_list_properties() -> None:
    schema = {"properties": {"a": {"properties": {}, "additionalProperties": True}}, "items": [{"type": "string"}]}
    assert without_extra_properties(schema) == {
        "properties": {"a": {"properties": {}, "additionalProperties": True}},
        "items": [{"type": "string"}],
        "additionalProperties": False,
    }


def test_offline_and_streamed_answers_follow_a_schema(llm: LLM) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 5}}, "required": ["n"]}
    params = SamplingParams(
        temperature=0,
        max_tokens=30,
        structured_outputs=structure(json=schema, disable_any_whitespace=True, disable_additional_properties=True),
    )
    (output,) = llm.generate("Return the number of", params, progress=False)
    assert json.loads(output.outputs[0].text)["n"] in (3, 4, 5)
    assert output.outputs[0].finish_reason == "stop"


def test_generate_refuses_before_the_first_step(llm: LLM) -> None:
    params = [SamplingParams(max_tokens=3), SamplingParams(structured_outputs=structure(regex="(a"))]
    with pytest.raises(StructuredOutputsError):
        llm.generate(["a", "b"], params, progress=False)
    assert not llm.engine.core.has_work
