"""Tests of the state of a request: the conditions that end it, and its text."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.request import FinishReason, Request, SamplingParams, TokenOutput
from engine.sequence import Decode, SequenceState, TextStream
from engine.tokenizer import Tokenizer

EOS = 0

Outcome = tuple[int, FinishReason | None, str | int | None, str]
"""Number of tokens, finish reason, stop reason and text."""


def letters(token_ids: Sequence[int]) -> str:
    """Decode token ids to letters: 1 to "a", 2 to "b", and so on."""
    return "".join(chr(ord("`") + token_id) for token_id in token_ids)


def tokens_of(text: str) -> list[int]:
    return [ord(letter) - ord("`") for letter in text]


def sequence(decode: Decode = letters, eos: frozenset[int] = frozenset({EOS}), **params: Any) -> SequenceState:
    params = {"temperature": 0, "max_tokens": 100, **params}
    return SequenceState(Request("a", (5, 6), SamplingParams(**params)), eos, decode, max_model_len=512)


def feed(state: SequenceState, token_ids: Sequence[int]) -> SequenceState:
    """Append tokens until the request ends."""
    for token_id in token_ids:
        if state.append(TokenOutput(token_id)):
            break
    return state


def outcome(text: str, **params: Any) -> Outcome:
    """Return the outcome of a request that would generate ``text`` if no condition ended it.

    The elements are the number of tokens, the finish reason, the stop reason and the text.
    """
    state = feed(sequence(**params), tokens_of(text))
    return len(state.tokens), state.finish_reason, state.stop_reason, state.text(letters)


def test_a_request_under_way_has_no_finish_reason() -> None:
    state = feed(sequence(), [1, 2, 3])
    assert state.finish_reason is None
    assert state.output_token_ids == (1, 2, 3)
    assert state.token_ids == [5, 6, 1, 2, 3]


KEEP = {"include_stop_str_in_output": True}
LENGTH, STOP = FinishReason.LENGTH, FinishReason.STOP
ENDS: dict[str, tuple[str, dict[str, Any], Outcome]] = {
    "max_tokens": ("abcdef", {"max_tokens": 3}, (3, LENGTH, None, "abc")),
    "a stop token is not in the text": ("abcd", {"stop_token_ids": (3, 9)}, (3, STOP, 3, "ab")),
    "a stop token that is kept": ("abcd", {"stop_token_ids": (3,), **KEEP}, (3, STOP, 3, "abc")),
    "a stop token where EOS is ignored": ("abcd", {"stop_token_ids": (3,), "ignore_eos": True}, (3, STOP, 3, "ab")),
    "a stop string across tokens": ("abcdef", {"stop": "cde"}, (5, STOP, "cde", "ab")),
    "a stop string that is kept": ("abcdef", {"stop": "cde", **KEEP}, (5, STOP, "cde", "abcde")),
    "a stop string at the start": ("abc", {"stop": "a"}, (1, STOP, "a", "")),
    "the beginning of a stop string": ("ababac", {"stop": "abac"}, (6, STOP, "abac", "ab")),
    "a stop string with the last token": ("abc", {"stop": "bc", "max_tokens": 3}, (3, STOP, "bc", "a")),
    "a stop string before min_tokens": ("abcabcabc", {"stop": "b", "min_tokens": 4}, (5, STOP, "b", "abca")),
    "one before min_tokens, kept": ("abcabcabc", {"stop": "b", "min_tokens": 4, **KEEP}, (5, STOP, "b", "abcab")),
    "a stop string that ends at min_tokens": ("abcabc", {"stop": "bc", "min_tokens": 3}, (6, STOP, "bc", "abca")),
    "a stop string that ends after min_tokens": ("abcabc", {"stop": "bc", "min_tokens": 2}, (3, STOP, "bc", "a")),
}


@pytest.mark.parametrize(("text", "params", "ended"), ENDS.values(), ids=ENDS)
def test_a_request_ends(text: str, params: dict[str, Any], ended: Outcome) -> None:
    assert outcome(text, **params) == ended


def test_the_end_of_sequence_token_ends_a_request_unless_it_is_ignored() -> None:
    state = feed(sequence(), [1, EOS, 2])
    assert (state.output_token_ids, state.finish_reason, state.stop_reason) == ((1, EOS), FinishReason.STOP, None)
    ignoring = feed(sequence(ignore_eos=True), [1, EOS, 2])
    assert (ignoring.output_token_ids, ignoring.finish_reason) == ((1, EOS, 2), None)


def test_every_end_of_sequence_token_of_a_model_counts() -> None:
    assert len(feed(sequence(eos=frozenset({3, 4})), [1, 4, 3]).tokens) == 2


def test_what_follows_a_stop_string_in_the_same_token_is_cut_off() -> None:
    words = {1: "one two", 2: " three"}
    state = feed(sequence(lambda ids: "".join(words[i] for i in ids), stop="e t"), [1, 2])
    assert (len(state.tokens), state.text(lambda ids: "".join(words[i] for i in ids))) == (1, "on")


def test_of_several_stop_strings_in_one_token_the_earliest_counts() -> None:
    def decode(ids: Sequence[int]) -> str:
        return "x = 1; y = 2\n" * len(ids)

    for stop in (("\n", ";"), (";", "\n")):
        state = feed(sequence(decode, stop=stop), [1])
        assert (state.stop_reason, state.text(decode)) == (";", "x = 1")


def test_before_min_tokens_the_tokens_that_end_a_request_are_forbidden() -> None:
    state = sequence(min_tokens=2, stop_token_ids=(8,))
    assert state.forbidden_token_ids == {EOS, 8}
    feed(state, [1])
    assert state.forbidden_token_ids == {EOS, 8}
    feed(state, [2])
    assert state.forbidden_token_ids == frozenset()


def test_an_ignored_end_of_sequence_token_is_not_forbidden() -> None:
    assert sequence(min_tokens=2, stop_token_ids=(8,), ignore_eos=True).forbidden_token_ids == {8}


@given(
    text=st.text("abc", min_size=1, max_size=40),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
    keep=st.booleans(),
)
def test_a_request_stops_at_the_first_token_that_completes_a_stop_string(
    text: str, stops: list[str], keep: bool
) -> None:
    ends = [(text.index(stop) + len(stop), stop) for stop in stops if stop in text]
    taken, reason, stop_reason, written = outcome(text, stop=tuple(stops), include_stop_str_in_output=keep)
    if not ends:
        assert (taken, reason, written) == (len(text), None, text)
    else:
        first_end = min(end for end, _ in ends)
        assert (taken, reason) == (first_end, FinishReason.STOP)
        assert (first_end, stop_reason) in ends
        assert written == text[: first_end if keep else first_end - len(str(stop_reason))]


def test_a_character_comes_out_when_its_last_byte_has_come(tokenizer: Tokenizer) -> None:
    token_ids = tokenizer.encode("a😀b")
    assert len(token_ids) > 3, "the emoji must be split for this test to mean anything"
    stream = TextStream(tokenizer.decode)
    added = [stream.push(token_id) for token_id in token_ids]
    assert "".join(added) == stream.text == "a😀b"
    assert added.count("") == len(token_ids) - 3
    assert added[-2:] == ["😀", "b"]


def test_a_stream_keeps_spaces_that_a_tokenizer_drops_at_the_start() -> None:
    pieces = {1: " one", 2: " two", 3: "s", 4: " three"}
    stream = TextStream(lambda ids: "".join(pieces[i] for i in ids).lstrip())
    assert [stream.push(token_id) for token_id in (1, 2, 3, 4)] == ["one", " two", "s", " three"]


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\N{REPLACEMENT CHARACTER}")))
def test_a_stream_writes_what_decoding_at_once_gives(tokenizer: Tokenizer, text: str) -> None:
    token_ids = tokenizer.encode(text)
    stream = TextStream(tokenizer.decode)
    for token_id in token_ids:
        stream.push(token_id)
    assert stream.text == tokenizer.decode(token_ids)


@settings(deadline=None)
@given(token_ids=st.lists(st.integers(0, 2047), max_size=40))
def test_a_stream_of_any_tokens_is_a_prefix_of_their_text(tokenizer: Tokenizer, token_ids: list[int]) -> None:
    stream = TextStream(tokenizer.decode)
    for token_id in token_ids:
        stream.push(token_id)
    whole = tokenizer.decode(token_ids)
    assert whole.startswith(stream.text)
    assert stream.text == whole or whole.endswith("\N{REPLACEMENT CHARACTER}")


def test_a_stop_string_of_several_bytes_is_found_once_it_is_whole(tokenizer: Tokenizer) -> None:
    token_ids = tokenizer.encode("one 日本 two")
    state = feed(sequence(tokenizer.decode, stop="本"), token_ids)
    assert state.stop_reason == "本"
    assert state.text(tokenizer.decode) == "one 日"
    assert tokenizer.decode(state.output_token_ids) == "one 日本"
