"""Tests of invalid requests, which entry points must refuse before they are queued."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.entrypoints.validation import RequestRefusedError, admit
from engine.request import SamplingParams, SamplingParamsError
from tests.helpers.narrow import present


def test_a_refusal_says_what_the_real_plugin_says() -> None:
    with pytest.raises(RequestRefusedError) as refusal:
        admit(70, SamplingParams(max_tokens=65), max_model_len=192)
    assert str(refusal.value) == (
        "Could not add request: prompt length is 70 tokens, which gets padded to 128 tokens, maximum number of "
        "output tokens is 65 tokens, but max model context length is 192."
    )


@pytest.mark.parametrize(
    ("prompt_length", "most"), [(1, 192), (63, 192), (64, 192), (65, 128), (128, 128), (129, 64), (192, 64)]
)
def test_the_padded_prompt_and_max_tokens_may_fill_the_context(prompt_length: int, most: int) -> None:
    assert admit(prompt_length, SamplingParams(max_tokens=most), max_model_len=256).max_tokens == most
    with pytest.raises(RequestRefusedError):
        admit(prompt_length, SamplingParams(max_tokens=most + 1), max_model_len=256)


def test_without_a_budget_a_request_gets_the_rest_of_the_context() -> None:
    assert admit(70, SamplingParams(max_tokens=None), max_model_len=192).max_tokens == 64
    assert admit(1, SamplingParams(max_tokens=None), max_model_len=192).max_tokens == 128


@pytest.mark.parametrize("prompt_length", [129, 192, 193])
def test_a_padded_prompt_that_leaves_no_room_for_a_token_is_refused(prompt_length: int) -> None:
    with pytest.raises(RequestRefusedError, match=f"prompt length is {prompt_length} tokens"):
        admit(prompt_length, SamplingParams(max_tokens=None), max_model_len=192)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(RequestRefusedError, match="the prompt is empty"):
        admit(0, SamplingParams(), max_model_len=192)


def test_more_min_tokens_than_the_rest_of_the_context_are_refused() -> None:
    with pytest.raises(SamplingParamsError, match="min_tokens must not exceed max_tokens 64"):
        admit(70, SamplingParams(max_tokens=None, min_tokens=65), max_model_len=192)


def test_all_other_parameters_pass_unchanged() -> None:
    params = SamplingParams(temperature=0.5, top_k=3, seed=1, max_tokens=9, stop="x", logprobs=2)
    assert admit(70, params, max_model_len=192) == params


@given(st.integers(1, 600), st.integers(1, 600) | st.none(), st.integers(1, 512))
def test_what_is_let_in_never_outgrows_the_context(
    prompt_length: int, max_tokens: int | None, max_model_len: int
) -> None:
    try:
        admitted = admit(prompt_length, SamplingParams(max_tokens=max_tokens), max_model_len)
    except RequestRefusedError:
        needed = -(-prompt_length // 64) * 64 + (max_tokens or 1)
        assert needed > max_model_len
    else:
        assert -(-prompt_length // 64) * 64 + present(admitted.max_tokens) <= max_model_len
        assert max_tokens in (None, admitted.max_tokens)
