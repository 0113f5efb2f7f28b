"""Tokens and logprobs of one sequence against a reference that is made up here."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkpoints import Checkpoint
from harness.checks import output
from harness.checks.output import Tolerance, check_output, expected_reference
from harness.checks.verdict import Verdict
from harness.drivers.base import RequestSpec, Token
from harness.oracle import Reference
from harness.prompts import Vocabulary

NO_CHECKPOINT = Checkpoint("made-up", "made-up", Path("nowhere"), None, "")
SPECIAL = 26
LETTERS = Vocabulary(
    encode=lambda text: tuple(ord(c) - ord("a") for c in text),
    decode=lambda ids: "".join("<end>" if i == SPECIAL else chr(ord("a") + i) for i in ids),
    visible=lambda ids: "".join(chr(ord("a") + i) for i in ids if i != SPECIAL),
    ordinary=tuple(range(26)),
    size=27,
    eos_token_ids=frozenset({SPECIAL}),
)
TEXT = "abcdefghijklmnopqrst"
LOGPROBS = tuple(-0.1 * (i + 1) for i in range(len(TEXT)))
MARGINS = tuple(1.0 + i for i in range(len(TEXT)))

Asked = list[tuple[tuple[int, ...], int]]


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[int]], Asked]:
    """Make Hugging Face say these tokens; what comes back lists which tokens were forbidden, and until when."""

    def say(token_ids: Sequence[int]) -> Asked:
        asked: Asked = []

        def made_up(
            checkpoint: Checkpoint, prompt: tuple[int, ...], most: int, forbidden: tuple[int, ...] = (), until: int = 0
        ) -> Reference:
            asked.append((forbidden, until))
            return Reference(tuple(token_ids)[:most], LOGPROBS[:most], MARGINS[:most])

        monkeypatch.setattr(output, "reference", made_up)
        return asked

    return say


@pytest.fixture(autouse=True)
def _alphabet(says: Callable[[Sequence[int]], Asked]) -> None:
    says(LETTERS.encode(TEXT))


def spec(max_tokens: int = 8, **more: Any) -> RequestSpec:
    return RequestSpec(3, (5, 6), max_tokens, **more)


def tokens(text: str, logprobs: Sequence[float | None] = LOGPROBS) -> list[Token]:
    return [Token(i, logprob) for i, logprob in zip(LETTERS.encode(text), logprobs, strict=False)]


def checked(seen: list[Token], request: RequestSpec | None = None, **more: Any) -> Verdict:
    return check_output(request or spec(), seen, NO_CHECKPOINT, LETTERS, **more)


def marked(verdict: Verdict) -> list[int]:
    """The positions that the table marks as wrong."""
    return [int(line.split()[1]) for line in verdict.details if line.startswith(">")]


def shown(verdict: Verdict) -> list[int]:
    """The positions in the table."""
    lines = [line[1:].split() for line in verdict.details if line[:3] in {">  ", "   "}]
    return [int(words[0]) for words in lines if words[0] != "position"]


# --- tokens ----------------------------------------------------------------------------------------------------


def test_the_same_tokens_with_the_same_logprobs_pass() -> None:
    verdict = checked(tokens("abcdefgh"))
    assert verdict.passed
    assert verdict.headline == "request 3: 8 tokens as Hugging Face"
    assert verdict.details == ()


def test_a_token_that_differs_is_told_with_both_texts_and_the_margin() -> None:
    verdict = checked(tokens("abxdefgh"))
    assert not verdict.passed
    assert verdict.headline == "request 3: token 2 is 23 'x', Hugging Face says 2 'c' (margin 3)"
    assert verdict.details[:2] == ("Hugging Face: 'abcdefgh'", "engine:       'abxdefgh'")
    assert marked(verdict) == [2]
    assert verdict.details[-1].startswith("1 of 8 tokens differ; of the others 0 logprobs are further off")


def test_it_goes_on_after_the_first_difference() -> None:
    verdict = checked(tokens("axcxefgx", [*LOGPROBS[:4], -9.0, *LOGPROBS[5:]]))
    assert verdict.headline.startswith("request 3: token 1 is 23 'x'")
    assert verdict.details[-1].startswith("3 of 8 tokens differ; of the others 1 logprobs are further off")
    assert marked(verdict) == [1, 3, 4]
    assert shown(verdict) == [0, 1, 2, 3, 4]


def test_the_table_shows_the_tokens_around_the_first_difference() -> None:
    verdict = checked(tokens("abcdefghijxl"), spec(12))
    assert shown(verdict) == [7, 8, 9, 10, 11]
    row = next(line for line in verdict.details if line.startswith(">"))
    assert row.split() == [">", "10", "10", "'k'", "-1.1000", "23", "'x'", "-1.1000"]


def test_missing_tokens_are_counted() -> None:
    verdict = checked(tokens("abcde"))
    assert not verdict.passed
    assert verdict.headline == "request 3: 5 tokens came, Hugging Face has 8"
    assert marked(verdict) == [5, 6, 7]
    assert verdict.details[-1].startswith("3 of 8 tokens differ")


def test_no_tokens_at_all_are_missing_tokens() -> None:
    assert checked([]).headline == "request 3: 0 tokens came, Hugging Face has 8"


def test_extra_tokens_are_counted() -> None:
    verdict = checked(tokens("abcdefghij"))
    assert not verdict.passed
    assert verdict.headline == "request 3: 10 tokens came, Hugging Face stops after 8"
    assert marked(verdict) == [8, 9]


def test_a_wrong_token_before_missing_ones_is_told_first() -> None:
    assert checked(tokens("axc")).headline.startswith("request 3: token 1 is 23 'x'")


# --- logprobs --------------------------------------------------------------------------------------------------


def with_logprob(position: int, logprob: float | None) -> list[Token]:
    seen = tokens("abcdefgh")
    seen[position] = Token(seen[position].token_id, logprob)
    return seen


def test_a_logprob_beyond_the_relative_tolerance_fails() -> None:
    verdict = checked(with_logprob(2, -0.5), tolerance=Tolerance(rel_tol=0.35, abs_tol=10))
    assert not verdict.passed
    assert verdict.headline == "request 3: logprob of token 2 is -0.5000, Hugging Face says -0.3000"
    assert verdict.details[-1] == (
        "0 of 8 tokens differ; of the others 1 logprobs are further off than rel_tol 0.35 or abs_tol 10"
    )
    assert marked(verdict) == [2]


def test_a_logprob_beyond_the_absolute_tolerance_alone_fails() -> None:
    assert Tolerance(abs_tol=10).allows(-0.32, -0.3)
    verdict = checked(with_logprob(2, -0.32))
    assert not verdict.passed
    assert verdict.headline == "request 3: logprob of token 2 is -0.3200, Hugging Face says -0.3000"


def test_a_logprob_within_both_tolerances_passes() -> None:
    assert checked(with_logprob(2, -0.309)).passed
    assert checked(with_logprob(2, -0.291)).passed


@pytest.mark.parametrize(
    ("seen", "right", "allowed"),
    [
        (-6e-5, -1.5e-4, True),  # far apart by ratio, both as good as certain
        (-1e-7, -2e-4, False),
        (-0.010, -0.014, True),  # 29 % and 0.004
        (-0.010, -0.016, False),  # 37 % and 0.006
        (-5.0, -5.009, True),
        (-5.0, -5.011, False),
        (None, -5.0, True),
        (float("nan"), -5.0, False),
        (float("-inf"), -5.0, False),
        (0.0, 0.0, True),
    ],
)
def test_noise_passes_and_both_tolerances_hold_above_it(seen: float | None, right: float, allowed: bool) -> None:
    assert Tolerance().allows(seen, right) is allowed


def test_logprobs_that_the_driver_cannot_see_are_not_compared() -> None:
    assert checked(tokens("abcdefgh", [None] * 8)).passed
    verdict = checked(tokens("abxdefgh", [None] * 8))
    row = next(line for line in verdict.details if line.startswith(">"))
    assert row.split() == [">", "2", "2", "'c'", "-0.3000", "23", "'x'"]


def test_the_logprob_of_another_token_is_not_compared() -> None:
    seen = with_logprob(2, -9.0)
    seen[2] = replace_token(seen[2], "x")
    assert checked(seen).details[-1].startswith("1 of 8 tokens differ; of the others 0 logprobs")


def replace_token(token: Token, letter: str) -> Token:
    return Token(LETTERS.encode(letter)[0], token.logprob)


# --- aborts ----------------------------------------------------------------------------------------------------


def test_an_aborted_request_is_held_to_the_tokens_it_got() -> None:
    assert checked(tokens("abc"), aborted=True).passed
    assert checked([], aborted=True).passed
    assert not checked(tokens("abc"), aborted=False).passed


def test_an_aborted_request_must_not_get_other_tokens_or_more_than_it_asked_for() -> None:
    assert checked(tokens("abx"), aborted=True).headline.startswith("request 3: token 2 is 23 'x'")
    assert not checked(tokens("abcdefghi"), aborted=True).passed
    assert not checked(with_logprob(1, -0.9)[:3], aborted=True).passed


# --- where the reference ends ----------------------------------------------------------------------------------


def reference_text(request: RequestSpec) -> str:
    wanted = expected_reference(request, NO_CHECKPOINT, LETTERS)
    assert len(wanted.token_ids) == len(wanted.logprobs) == len(wanted.margins)
    return LETTERS.decode(wanted.token_ids)


def test_without_stop_conditions_the_reference_goes_on_to_max_tokens() -> None:
    assert reference_text(spec(6)) == "abcdef"


def test_a_stop_token_ends_the_reference_and_belongs_to_it() -> None:
    assert reference_text(spec(stop_token_ids=LETTERS.encode("d"))) == "abcd"
    assert reference_text(spec(stop_token_ids=LETTERS.encode("fd"))) == "abcd"
    assert reference_text(spec(stop_token_ids=LETTERS.encode("g"))) == "abcdefg"
    assert reference_text(spec(stop_token_ids=LETTERS.encode("z"))) == "abcdefgh"


def test_the_end_of_text_ends_the_reference_unless_it_is_ignored(says: Callable[[Sequence[int]], Asked]) -> None:
    says((0, 1, SPECIAL, 3, 4, 5, 6, 7))
    assert reference_text(spec(ignore_eos=False)) == "ab<end>"
    assert reference_text(spec(ignore_eos=True)) == "ab<end>defgh"


@pytest.mark.parametrize(
    ("stop", "text"),
    [(("c",), "abc"), (("cde",), "abcde"), (("fg", "bc"), "abc"), (("ca",), "abcdefgh"), (("a",), "a")],
)
def test_a_stop_string_ends_the_reference_with_the_token_that_completes_it(stop: tuple[str, ...], text: str) -> None:
    assert reference_text(spec(stop=stop)) == text


def test_min_tokens_forbids_what_would_end_the_request(says: Callable[[Sequence[int]], Asked]) -> None:
    asked = says(LETTERS.encode(TEXT))
    expected_reference(spec(min_tokens=4, stop_token_ids=(9, 2), ignore_eos=False), NO_CHECKPOINT, LETTERS)
    expected_reference(spec(min_tokens=4, stop_token_ids=(9, 2)), NO_CHECKPOINT, LETTERS)
    expected_reference(spec(), NO_CHECKPOINT, LETTERS)
    assert asked == [((2, 9, SPECIAL), 4), ((2, 9), 4), ((), 0)]


def test_a_stop_string_that_is_complete_with_the_last_of_min_tokens_ends_the_reference() -> None:
    assert reference_text(spec(min_tokens=3, stop=("bc",))) == "abc"
    assert reference_text(spec(min_tokens=4, stop=("de",))) == "abcde"


def test_a_stop_string_that_was_complete_before_min_tokens_ends_nothing_later() -> None:
    assert reference_text(spec(min_tokens=4, stop=("bc",))) == "abcdefgh"
    assert reference_text(spec(min_tokens=4, stop=("b", "f"))) == "abcdef"


def test_a_stop_string_that_comes_again_after_min_tokens_ends_the_reference(
    says: Callable[[Sequence[int]], Asked],
) -> None:
    says(LETTERS.encode("abcabcab"))
    assert reference_text(spec(min_tokens=4, stop=("bc",))) == "abcabc"


def test_stop_strings_are_looked_for_in_the_text_without_special_tokens(says: Callable[[Sequence[int]], Asked]) -> None:
    says((0, 1, SPECIAL, 2, 3, 4, 5, 6))
    assert reference_text(spec(stop=("<end>",))) == "ab<end>cdefg"
    assert reference_text(spec(stop=("bc",))) == "ab<end>c"


def test_a_stop_string_is_found_where_its_character_took_several_tokens(
    monkeypatch: pytest.MonkeyPatch, says: Callable[[Sequence[int]], Asked]
) -> None:
    def visible(ids: tuple[int, ...]) -> str:
        return bytes(ids).decode("utf-8", errors="replace")

    says(b"a\xc3\xa9bcdef")
    byte_tokens = replace(LETTERS, visible=visible)
    wanted = expected_reference(spec(stop=("é",)), NO_CHECKPOINT, byte_tokens)
    assert bytes(wanted.token_ids) == b"a\xc3\xa9"


def test_the_engine_is_held_to_where_the_reference_ends() -> None:
    stopping = spec(stop_token_ids=LETTERS.encode("d"))
    assert checked(tokens("abcd"), stopping).passed
    assert checked(tokens("abcdefgh"), stopping).headline == "request 3: 8 tokens came, Hugging Face stops after 4"
    assert checked(tokens("abc"), stopping).headline == "request 3: 3 tokens came, Hugging Face has 4"


# --- data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["abcdefgh", "abx", "abcdefghij"])
def test_the_data_of_a_verdict_holds_both_sequences_and_survives_a_journey_as_json(text: str) -> None:
    data = checked(tokens(text, [-0.1, None, *LOGPROBS[2:]])).data
    assert json.loads(json.dumps(data)) == data
    assert data["request"] == 3
    assert (data["text"], data["reference_text"]) == (text, "abcdefgh")
    assert data["token_ids"] == list(LETTERS.encode(text))
    assert data["reference_token_ids"] == list(range(8))
    assert data["logprobs"][:3] == [-0.1, None, LOGPROBS[2]]
    assert data["reference_logprobs"] == list(LOGPROBS[:8])
