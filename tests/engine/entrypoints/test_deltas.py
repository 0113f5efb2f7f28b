"""Tests that the deltas of a stream add up to the whole answer, for any tokens, characters and stop strings."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.entrypoints.completion import completion
from engine.entrypoints.deltas import DeltaMaker, held_back, merged
from engine.request import CompletionOutput, Logprob, Request, SamplingParams, TokenOutput
from engine.sequence import SequenceState
from engine.tokenizer import Tokenizer

TOKENS = st.lists(st.integers(0, 2047), min_size=1, max_size=25)


def sequence(tokenizer: Tokenizer, max_tokens: int, **params: Any) -> SequenceState:
    request = Request("r", (5,), SamplingParams(temperature=0, max_tokens=max_tokens, **params))
    return SequenceState(request, tokenizer.eos_token_ids, tokenizer.decode, max_model_len=512)


def feed(
    tokenizer: Tokenizer, token_ids: Sequence[int], **params: Any
) -> tuple[CompletionOutput, list[CompletionOutput]]:
    """Return the whole answer of a request that generates ``token_ids``, and the deltas of its stream."""
    state = sequence(tokenizer, len(token_ids), **params)
    maker = DeltaMaker(0, tokenizer, skip_special_tokens=state.params.skip_special_tokens)
    deltas = []
    for token_id in token_ids:
        state.append(TokenOutput(token_id))
        deltas.append(maker.delta(state))
        if state.finish_reason:
            break
    return completion(0, state, tokenizer), deltas


def add_up(deltas: Sequence[CompletionOutput]) -> CompletionOutput:
    whole = deltas[0]
    for delta in deltas[1:]:
        whole = merged(whole, delta)
    return whole


@settings(max_examples=300)
@given(TOKENS, st.data())
def test_deltas_add_up_to_the_answer(tokenizer: Tokenizer, token_ids: list[int], data: st.DataObject) -> None:
    text = tokenizer.decode(token_ids)
    parts = [text[i:j] for i in range(len(text)) for j in range(i + 1, min(i + 6, len(text)) + 1)]
    stops = data.draw(st.lists(st.sampled_from(parts) if parts else st.just("x"), max_size=2))
    keep = data.draw(st.booleans())
    whole, deltas = feed(tokenizer, token_ids, stop=tuple(stops), include_stop_str_in_output=keep)
    assert add_up(deltas) == whole


@given(TOKENS)
def test_deltas_with_special_tokens_add_up_too(tokenizer: Tokenizer, token_ids: list[int]) -> None:
    whole, deltas = feed(tokenizer, token_ids, skip_special_tokens=False, ignore_eos=True)
    assert add_up(deltas) == whole


@pytest.mark.parametrize("text", ["naïve café", "日本語のテキスト", "👩‍👩‍👧 and 🇩🇪", "e\u0301"])
def test_no_character_comes_in_pieces(tokenizer: Tokenizer, text: str) -> None:
    whole, deltas = feed(tokenizer, tokenizer.encode(text), ignore_eos=True)
    assert add_up(deltas).text == whole.text == text
    assert not any("\N{REPLACEMENT CHARACTER}" in delta.text for delta in deltas)
    assert len(deltas) > len(text.split()), "more than one token, or nothing was tested"


def test_what_a_stop_string_cuts_was_never_handed_over(tokenizer: Tokenizer) -> None:
    token_ids = tokenizer.encode("one two three four")
    whole, deltas = feed(tokenizer, token_ids, stop="two thr")
    assert whole.text == "one "
    assert all("t" not in delta.text for delta in deltas)
    assert deltas[-1].stop_reason == "two thr"


@settings(max_examples=300)
@given(TOKENS, st.data())
def test_tokens_do_not_run_ahead_of_their_text(tokenizer: Tokenizer, token_ids: list[int], data: st.DataObject) -> None:
    text = tokenizer.decode(token_ids)
    parts = [text[i : i + 4] for i in range(len(text))]
    stops = data.draw(st.lists(st.sampled_from(parts) if parts else st.just("x"), max_size=2))
    _, deltas = feed(tokenizer, token_ids, stop=tuple(stops), min_tokens=len(token_ids), ignore_eos=True)
    for number in range(1, len(deltas)):
        so_far = add_up(deltas[:number])
        assert so_far.text.startswith(tokenizer.decode(so_far.token_ids))


def test_a_token_comes_with_the_text_that_was_held_back(tokenizer: Tokenizer) -> None:
    token_ids = tokenizer.encode("one two three")
    _, deltas = feed(tokenizer, token_ids, stop=" two four")
    first = next(delta for delta in deltas if delta.text)
    held = [delta for delta in deltas if not delta.token_ids]
    assert first.text == "one"
    assert held, "nothing was held back, or nothing was tested"
    assert add_up(deltas).token_ids == token_ids


def test_tokens_without_text_are_not_held_back(tokenizer: Tokenizer) -> None:
    (end,) = tokenizer.eos_token_ids
    _, deltas = feed(tokenizer, [end] * 3, ignore_eos=True)
    assert [delta.token_ids for delta in deltas] == [(end,)] * 3


def test_what_only_looked_like_a_stop_string_comes_in_the_end(tokenizer: Tokenizer) -> None:
    whole, deltas = feed(tokenizer, tokenizer.encode("one two three"), stop="three four")
    assert whole.text == add_up(deltas).text == "one two three"


@pytest.mark.parametrize(
    ("text", "stops", "held"),
    [("abc", (), 0), ("abc", ("cd",), 1), ("abcd", ("cdx", "bcdy"), 3), ("aaa", ("aaaa",), 3), ("ab", ("x",), 0)],
)
def test_the_longest_beginning_of_a_stop_string_is_held_back(text: str, stops: tuple[str, ...], held: int) -> None:
    assert held_back(text, stops) == held


def test_merging_keeps_the_order_and_the_last_word() -> None:
    first = CompletionOutput(0, "a", (1,), -1.0, ({1: Logprob(-1.0, 1, "a")},), None)
    last = CompletionOutput(0, "b", (2,), -3.0, ({2: Logprob(-2.0, 1, "b")},), "stop", "x")
    both = merged(first, last)
    assert (both.text, both.token_ids, both.finish_reason, both.stop_reason) == ("ab", (1, 2), "stop", "x")
    assert (both.cumulative_logprob, len(both.logprobs or ())) == (-3.0, 2)
