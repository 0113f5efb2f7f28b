"""Tests of output checks: default policies, alternatives, aborted requests, and outputs that end with the reference."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.checks.output.policies import DEFAULT_BOUNDS, default_policy, resolve_policy
from harness.drivers.base import GOLDEN_TOKENS
from harness.references.stopping import end_of, ended, ended_text, wanted_for
from harness.suites.schema import Policy
from harness.types import RequestSpec, Verdict
from tests.helpers.outputs import (
    LETTERS,
    LOGPROBS,
    RIGHT,
    SPECIAL,
    TEXT,
    checked,
    reference,
    spec,
    tokens,
    with_logprob,
    wrong,
)

# --- which policy ----------------------------------------------------------------------------------------------


def test_the_default_policy_depends_on_precision_and_driver() -> None:
    assert default_policy("float32", {GOLDEN_TOKENS}) == "exact"
    assert default_policy("float16", {GOLDEN_TOKENS}) == "golden"
    assert default_policy("quantised", set()) == "divergence"


def test_a_given_bound_replaces_its_default_only() -> None:
    resolved = resolve_policy(Policy(name="golden", abs_tol=0.5), "float16", set())
    assert resolved.bounds == replace(DEFAULT_BOUNDS["float16"], abs_tol=0.5)


# --- alternatives ----------------------------------------------------------------------------------------------


def with_alternatives(position: int, top: tuple[tuple[int, float], ...]) -> Verdict:
    seen = [token._replace(top=r.top[:2]) for token, r in zip(tokens("abcdefgh"), RIGHT.tokens, strict=False)]
    seen[position] = seen[position]._replace(top=top)
    return checked(seen, spec(logprobs=2), alternatives=2)


def test_alternatives_must_be_as_many_as_requested_and_as_likely() -> None:
    assert with_alternatives(2, ((2, -0.3), (3, -3.3))).passed
    assert wrong(with_alternatives(2, ((2, -0.3),))) == {"2": ["alternatives"]}
    assert wrong(with_alternatives(2, ((2, -0.3), (3, -3.2)))) == {"2": ["alternatives"]}
    assert wrong(with_alternatives(2, ((3, -0.3), (2, -3.3)))) == {"2": ["alternatives"]}
    assert "the alternatives to token 2 differ from Hugging Face's" in with_alternatives(2, ()).headline


# --- aborts ----------------------------------------------------------------------------------------------------


def test_an_aborted_request_is_held_to_the_tokens_it_got() -> None:
    assert checked(tokens("abc"), aborted=True).passed
    assert checked([], aborted=True).passed
    assert not checked(tokens("abc"), aborted=False).passed
    assert checked(tokens("abx"), aborted=True).headline.startswith("request 3: token 2 is 23 'x'")
    assert not checked(tokens("abcdefghi"), aborted=True).passed
    assert not checked(with_logprob(1, -0.9)[:3], aborted=True).passed


# --- where the reference ends ----------------------------------------------------------------------------------


def text_to_the_end(request: RequestSpec, token_ids: Sequence[int] = LETTERS.encode(TEXT)) -> str:
    logprobs = (-0.1,) * len(token_ids)
    return LETTERS.decode(ended(reference(token_ids, logprobs), request, LETTERS).token_ids)


def test_without_stop_conditions_the_reference_goes_on_to_max_tokens() -> None:
    assert text_to_the_end(spec(6)) == "abcdef"


def test_a_stop_token_ends_the_reference_and_belongs_to_it() -> None:
    assert text_to_the_end(spec(stop_token_ids=LETTERS.encode("d"))) == "abcd"
    assert text_to_the_end(spec(stop_token_ids=LETTERS.encode("fd"))) == "abcd"
    assert text_to_the_end(spec(stop_token_ids=LETTERS.encode("z"))) == "abcdefgh"


def test_the_end_of_text_ends_the_reference_unless_it_is_ignored() -> None:
    ids = (0, 1, SPECIAL, 3, 4, 5, 6, 7)
    assert text_to_the_end(spec(ignore_eos=False), ids) == "ab<end>"
    assert text_to_the_end(spec(ignore_eos=True), ids) == "ab<end>defgh"


@pytest.mark.parametrize(
    ("stop", "text"),
    [(("c",), "abc"), (("cde",), "abcde"), (("fg", "bc"), "abc"), (("ca",), "abcdefgh"), (("a",), "a")],
)
def test_a_stop_string_ends_the_reference_with_the_token_that_completes_it(stop: tuple[str, ...], text: str) -> None:
    assert text_to_the_end(spec(stop=stop)) == text


def test_min_tokens_forbids_what_would_end_the_request() -> None:
    def forbidden(request: RequestSpec) -> tuple[tuple[int, ...], int]:
        wanted = wanted_for(request, LETTERS)
        return wanted.forbidden, wanted.forbidden_until

    assert forbidden(spec(min_tokens=4, stop_token_ids=(9, 2), ignore_eos=False)) == ((2, 9, SPECIAL), 4)
    assert forbidden(spec(min_tokens=4, stop_token_ids=(9, 2))) == ((2, 9), 4)
    assert forbidden(spec()) == ((), 0)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"stop": ("cde",)}, "ab"),
        ({"stop": ("cde",), "include_stop_str_in_output": True}, "abcde"),
        ({"stop": ("cde", "de"), "include_stop_str_in_output": True}, "abcde"),
        ({"stop_token_ids": (3,)}, "abc"),
        ({"stop_token_ids": (3,), "include_stop_str_in_output": True}, "abcd"),
        ({"stop": ("cde",), "min_tokens": 6, "include_stop_str_in_output": True}, "abcdefgh"),
    ],
)
def test_text_with_and_without_what_ended_it(more: dict[str, Any], text: str) -> None:
    ids = LETTERS.encode(TEXT)
    assert ended_text(reference(ids, (-0.1,) * len(ids)), spec(**more), LETTERS) == text


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, "abdefgh"),
        ({"skip_special_tokens": False}, "ab<end>defgh"),
        ({"skip_special_tokens": False, "stop": ("<end>",)}, "ab"),
        ({"skip_special_tokens": False, "ignore_eos": False, "include_stop_str_in_output": True}, "ab<end>"),
        ({"ignore_eos": False, "include_stop_str_in_output": True}, "ab"),
    ],
)
def test_text_with_and_without_special_tokens(more: dict[str, Any], text: str) -> None:
    ids = (0, 1, SPECIAL, 3, 4, 5, 6, 7)
    assert ended_text(reference(ids, (-0.1,) * 8), spec(**more), LETTERS) == text


def test_stop_strings_and_min_tokens() -> None:
    assert text_to_the_end(spec(min_tokens=2, stop=("bc",))) == "abc"
    assert text_to_the_end(spec(min_tokens=3, stop=("bc",))) == "abcdefgh"
    assert text_to_the_end(spec(min_tokens=4, stop=("de",))) == "abcde"
    assert text_to_the_end(spec(min_tokens=4, stop=("bc",))) == "abcdefgh"
    assert text_to_the_end(spec(min_tokens=4, stop=("b", "f"))) == "abcdef"
    assert text_to_the_end(spec(min_tokens=4, stop=("bc",)), LETTERS.encode("abcabcab")) == "abcabc"


def test_stop_strings_are_looked_for_in_the_text_without_special_tokens() -> None:
    ids = (0, 1, SPECIAL, 2, 3, 4, 5, 6)
    assert text_to_the_end(spec(stop=("<end>",)), ids) == "ab<end>cdefg"
    assert text_to_the_end(spec(stop=("bc",)), ids) == "ab<end>c"


def test_a_stop_string_is_found_where_its_character_took_several_tokens() -> None:
    visible: Callable[[tuple[int, ...]], str] = lambda ids: bytes(ids).decode("utf-8", errors="replace")  # noqa: E731
    of_bytes = replace(LETTERS, visible=visible)
    assert end_of(b"a\xc3\xa9bcdef", spec(stop=("é",)), of_bytes) == 3


def test_the_engine_is_held_to_where_the_reference_ends() -> None:
    stopping = spec(stop_token_ids=LETTERS.encode("d"))
    assert checked(tokens("abcd"), stopping).passed
    assert (
        checked(tokens("abcde"), stopping).headline
        == "request 3: the engine generated 5 tokens, Hugging Face stops after 4"
    )
    assert checked(tokens("abc"), stopping).headline == "request 3: the engine generated 3 tokens, Hugging Face 4"


# --- data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["abcdefgh", "abx", "abcdefghij"])
def test_the_data_of_a_verdict_survives_json(text: str) -> None:
    data = checked(tokens(text, [-0.1, None, *LOGPROBS[2:]])).data
    assert json.loads(json.dumps(data)) == data
    assert (data["request"], data["policy"]) == (3, "exact")
    assert (data["text"], data["reference_text"]) == (text, "abcdefgh")
    assert data["token_ids"] == list(LETTERS.encode(text))
    assert data["reference_token_ids"] == list(range(8))
    assert data["logprobs"][:3] == [-0.1, None, LOGPROBS[2]]
    assert data["reference_logprobs"] == list(LOGPROBS[:8])
