"""Tests that compare tokens and logprobs of one sequence with an artificial reference output, with every policy."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from harness.checks.output.compare import close, kl_over_top
from harness.checks.output.policies import DEFAULT_BOUNDS
from harness.references import Reference, ReferenceToken
from harness.suites.schema import POLICY_NAMES
from harness.types import Token, Verdict
from tests.helpers.outputs import (
    LETTERS,
    LOGPROBS,
    RIGHT,
    SPECIAL,
    TEXT,
    checked,
    policy,
    reference,
    spec,
    tokens,
    with_logprob,
    wrong,
)


def marked(verdict: Verdict) -> list[int]:
    """Return the positions that the table in a verdict marks as wrong with ``>``."""
    return [int(line.split()[1]) for line in verdict.details if line.startswith(">")]


# --- exact -----------------------------------------------------------------------------------------------------


def test_the_same_tokens_with_the_same_logprobs_pass_under_every_policy() -> None:
    for name in POLICY_NAMES:
        verdict = checked(tokens("abcdefgh"), by=policy(name))
        assert verdict.passed, verdict
        assert verdict.details == ()
    assert checked(tokens("abcdefgh")).headline == "request 3: 8 tokens as in Hugging Face, logprobs within 0"
    assert "(policy golden)" in checked(tokens("abcdefgh"), by=policy("golden")).headline


def test_a_different_token_is_reported_with_texts_lists_and_margin() -> None:
    seen = tokens("abxdefgh")
    seen[2] = Token(23, -0.2, 1, ((23, -0.2), (2, -1.9), (7, -4.0)))
    verdict = checked(seen)
    assert not verdict.passed
    assert verdict.headline == "request 3: token 2 is 23 'x', Hugging Face says 2 'c' (margin 3)"
    assert verdict.details[:2] == ("Hugging Face: 'abcdefgh'", "engine:       'abxdefgh'")
    assert marked(verdict) == [2]
    text = "\n".join(verdict.details)
    assert "top tokens at position 2 (margin of the best token 3):" in text
    listed = [" ".join(line.split()) for line in verdict.details]
    assert "Hugging Face 2 'c' -0.3000 3 'd' -3.3000 25 'z' -4.3000" in listed
    assert "engine 23 'x' -0.2000 2 'c' -1.9000 7 'h' -4.0000" in listed
    assert "1 of 8 positions are wrong: token at 1" in text


def test_it_goes_on_after_the_first_difference_and_sums_it_up() -> None:
    verdict = checked(tokens("axcxefgx", [*LOGPROBS[:4], -9.0, *LOGPROBS[5:]]))
    assert verdict.headline.startswith("request 3: token 1 is 23 'x'")
    assert wrong(verdict) == {"1": ["token"], "3": ["token"], "4": ["logprob"], "7": ["token"]}
    assert "4 of 8 positions are wrong: token at 3, logprob at 1" in verdict.details
    assert verdict.details[-1] == "logprobs differ by 1.7 on average, by 8.5 at most (position 4)"


def test_the_most_likely_tokens_are_shown_at_the_first_difference() -> None:
    seen = [token._replace(top=r.top) for token, r in zip(tokens("abcdxfgh"), RIGHT.tokens, strict=False)]
    seen[1] = seen[1]._replace(logprob=-0.9)
    verdict = checked(seen)
    assert verdict.headline.startswith("request 3: logprob of token 1 is")
    assert [line for line in verdict.details if line.startswith("top tokens at")] == [
        "top tokens at position 1 (margin of the best token 3):",
        "top tokens at position 4 (margin of the best token 3):",
    ]


def test_the_table_shows_the_tokens_around_the_first_difference() -> None:
    verdict = checked(tokens("abcdefghijxl"), spec(12))
    rows = [line[1:].split() for line in verdict.details if line[:3] in {">  ", "   "}]
    assert [int(words[0]) for words in rows if words[0] != "position"] == [7, 8, 9, 10, 11]
    row = next(line for line in verdict.details if line.startswith(">"))
    assert row.split() == [">", "10", "10", "'k'", "-1.1000", "23", "'x'", "-1.1000", "1", "token"]


def test_missing_and_extra_tokens_are_counted() -> None:
    missing = checked(tokens("abcde"))
    assert missing.headline == "request 3: the engine generated 5 tokens, Hugging Face 8"
    assert marked(missing) == [5, 6, 7]
    assert checked([]).headline == "request 3: the engine generated 0 tokens, Hugging Face 8"
    extra = checked(tokens("abcdefghij"))
    assert extra.headline == "request 3: the engine generated 10 tokens, Hugging Face stops after 8"
    assert marked(extra) == [8, 9]
    assert checked(tokens("axc")).headline.startswith("request 3: token 1 is 23 'x'")


def test_a_logprob_beyond_either_tolerance_fails() -> None:
    verdict = checked(with_logprob(2, -0.5), by=policy(abs_tol=1))
    assert verdict.headline == "request 3: logprob of token 2 is -0.5000, Hugging Face says -0.3000"
    assert marked(verdict) == [2]
    assert verdict.rule == (
        'docs/outputs.md "Policies": exact for float32: the same tokens and ranks, logprobs within rel_tol 0.35 and '
        "abs_tol 1"
    )
    assert checked(with_logprob(2, -0.32), by=policy(abs_tol=1)).passed
    assert not checked(with_logprob(2, -0.32)).passed
    assert checked(with_logprob(2, -0.309)).passed
    assert checked(with_logprob(2, -0.291)).passed


@pytest.mark.parametrize(
    ("seen", "right", "allowed"),
    [
        (-6e-5, -1.5e-4, True),  # a large ratio, but both nearly certain
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
    assert close(seen, right, DEFAULT_BOUNDS["float32"], relative=True) is allowed


def test_logprobs_that_the_driver_cannot_see_are_not_compared() -> None:
    for name in POLICY_NAMES:
        assert checked([Token(i) for i in LETTERS.encode("abcdefgh")], by=policy(name)).passed
    assert not checked([Token(i) for i in LETTERS.encode("abxdefgh")]).passed


# --- published -------------------------------------------------------------------------------------------------


def test_the_published_rule_is_isclose_pairwise_and_nothing_else() -> None:
    published = policy("published", "float16")
    assert checked(with_logprob(2, -0.4), by=published).passed  # 25 % off, 0.1 in all
    assert not checked(with_logprob(2, -0.5), by=published).passed
    # The published rule has no floor for rounding errors ...
    nearly_sure = reference(LETTERS.encode("ab"), (-1e-7, -0.2))
    assert not checked(tokens("ab", (-2e-7, -0.2)), spec(2), by=published, right=nearly_sure).passed
    # ... and compares the logprobs of different tokens as if they were the same.
    assert checked(tokens("axyzefgh"), by=published).passed


def test_on_a_cpu_the_published_rule_asks_for_the_same_tokens_too() -> None:
    assert not checked(tokens("axcdefgh"), by=policy("published", "float32")).passed
    assert not checked(tokens("abcd"), by=policy("published", "float16")).passed


# --- divergence ------------------------------------------------------------------------------------------------


def parting(margin: float) -> Reference:
    """Return a reference output in which ``c`` is more likely than ``d`` by ``margin`` at position 2."""
    close_call = ReferenceToken(2, -0.5, ((2, -0.5), (3, -0.5 - margin), (25, -6.0)))
    return Reference((*RIGHT.tokens[:2], close_call, *RIGHT.tokens[3:]))


def checked_after(margin: float, text: str, leads: Sequence[float]) -> Reference:
    """Return the reference output for the engine's ``text``, which differs from ``parting(margin)`` from position 2 on.

    From there, the tokens of ``text`` are less likely than the reference's best tokens by the values in ``leads``.
    """
    own = parting(margin).tokens[:2]
    behind = tuple(
        ReferenceToken(i, -0.7, (((i, -0.7), (9, -4.0)) if not lead else ((9, -0.7 + lead), (i, -0.7))))
        for i, lead in zip(LETTERS.encode(text[2:]), leads, strict=True)
    )
    return Reference((*own, *behind))


def test_tokens_may_part_where_the_reference_wavers() -> None:
    rescored = checked_after(0.02, "abdxy", (0.02, 0, 0))
    seen = tokens("abdxy", (-0.1, -0.2, -0.7, -0.7, -0.7))
    verdict = checked(seen, spec(5), by=policy("divergence", margin=0.05), right=parting(0.02), rescored=rescored)
    assert verdict.passed, verdict
    assert verdict.headline.startswith("request 3: 5 tokens accepted by the policy")


def test_tokens_must_not_part_where_the_reference_is_sure() -> None:
    rescored = checked_after(0.2, "abdxy", (0.2, 0, 0))
    seen = tokens("abdxy", (-0.1, -0.2, -0.7, -0.7, -0.7))
    verdict = checked(seen, spec(5), by=policy("divergence", margin=0.05), right=parting(0.2), rescored=rescored)
    assert wrong(verdict) == {"2": ["token"]}
    assert verdict.headline.startswith("request 3: token 2 is 3 'd', Hugging Face says 9 'j'")


def test_text_after_a_divergence_is_checked_on_the_engines_tokens() -> None:
    rescored = checked_after(0.02, "abdxy", (0.02, 1.5, 0))
    seen = tokens("abdxy", (-0.1, -0.2, -0.7, -0.7, -0.9))
    verdict = checked(seen, spec(5), by=policy("divergence", margin=0.05), right=parting(0.02), rescored=rescored)
    assert wrong(verdict) == {"3": ["token"], "4": ["logprob"]}


def test_after_a_divergence_the_requests_own_end_counts() -> None:
    rescored = checked_after(0.02, "abdxy", (0.02, 0, 0))
    seen = tokens("abdxy", (-0.1, -0.2, -0.7, -0.7, -0.7))
    by = policy("divergence", margin=0.05)
    early = checked(seen, spec(8), by=by, right=parting(0.02), rescored=rescored)
    assert early.headline.endswith("generated 5 tokens, but the stop conditions end the request at another token")
    stops = spec(8, stop_token_ids=LETTERS.encode("y"))
    assert checked(seen, stops, by=by, right=parting(0.02), rescored=rescored).passed


def test_before_min_tokens_the_best_is_the_best_of_those_that_may_come() -> None:
    """Before ``min_tokens``, tokens that end the request are masked.

    The engine must choose the best token that is left.
    """
    held_off = ReferenceToken(3, -2.0, ((SPECIAL, -0.1), (3, -2.0)))
    rescored = Reference((*parting(0.02).tokens[:2], *checked_after(0.02, "abd", (0.02,)).tokens[2:], held_off))
    seen = tokens("abdd", (-0.1, -0.2, -0.7, -2.0))
    request = spec(4, ignore_eos=False, min_tokens=4)
    assert checked(seen, request, by=policy("divergence", margin=0.05), right=parting(0.02), rescored=rescored).passed
    request = spec(4, ignore_eos=False)
    assert not checked(
        seen, request, by=policy("divergence", margin=0.05), right=parting(0.02), rescored=rescored
    ).passed


def test_where_nothing_may_be_computed_a_divergence_is_a_failure_that_says_so() -> None:
    verdict = checked(tokens("abdxy"), spec(5), by=policy("divergence"), right=parting(0.001))
    assert not verdict.passed
    assert "use --cb-references compute" in verdict.headline


# --- golden ----------------------------------------------------------------------------------------------------


def golden(position: int, **changes: Any) -> Verdict:
    seen = [token._replace(top=r.top) for token, r in zip(tokens("abcdefgh"), RIGHT.tokens, strict=False)]
    seen[position] = seen[position]._replace(**changes)
    return checked(seen, by=policy("golden", "float16"))


def test_exact_compares_the_rank_with_that_of_the_reference() -> None:
    seen = tokens("abcdefgh")
    for rank in (0, 2, 9):
        seen[2] = seen[2]._replace(rank=rank)
        verdict = checked(seen)
        assert wrong(verdict) == {"2": ["rank"]}
        assert verdict.headline == f"request 3: token 2 ranks {rank} in the engine, and 1 in Hugging Face (margin 3)"
    seen[2] = seen[2]._replace(rank=None)
    assert checked(seen).passed
    near = reference(LETTERS.encode(TEXT), margin=0.01)
    for rank, fits in ((1, True), (2, True), (3, False)):
        seen[2] = seen[2]._replace(rank=rank)
        assert checked(seen, right=near).passed is fits


def test_exact_knows_the_lowest_rank_of_a_token_that_the_reference_does_not_list() -> None:
    unlisted = ReferenceToken(2, -8.0, ((0, -0.5), (1, -2.0)))
    right = Reference((unlisted,))
    for rank, fits in ((2, False), (3, True), (400, True)):
        verdict = checked([Token(2, -8.0, rank)], spec(1), right=right)
        assert verdict.passed is fits
    assert (
        "token 0 ranks 2 in the engine, and below 2 in Hugging Face"
        in checked([Token(2, -8.0, 2)], spec(1), right=right).headline
    )


def test_golden_looks_at_logprob_rank_and_divergence_at_every_position() -> None:
    assert golden(2).passed
    assert wrong(golden(2, logprob=-0.3 - 0.081)) == {"2": ["logprob"]}
    assert golden(2, logprob=-0.3 - 0.079).passed
    assert wrong(golden(2, rank=2)) == {"2": ["rank"]}
    assert wrong(golden(2, top=((2, -1.2), (3, -0.9), (25, -4.0)))) == {"2": ["KL"]}
    assert "Hugging Face's: KL divergence 0." in golden(2, top=((2, -1.2), (3, -0.9), (25, -4.0))).headline


def test_a_rank_may_be_lost_where_the_reference_wavers() -> None:
    seen = tokens("abcdefgh")
    seen[2] = seen[2]._replace(rank=2)
    assert checked(seen, by=policy("golden", margin=0.1), right=reference(LETTERS.encode(TEXT), margin=0.05)).passed


def test_an_engine_that_ignores_golden_tokens_is_reported() -> None:
    verdict = checked(tokens("abxdefgh"), by=policy("golden"))
    golden = "but the golden token that the engine was forced to generate is 2 'c'"
    assert verdict.headline == f"request 3: token 2 is 23 'x', {golden}"


def test_kl_of_the_same_is_nothing_and_of_others_is_what_the_formula_says() -> None:
    same = ((1, math.log(0.5)), (2, math.log(0.25)))
    assert kl_over_top(same, same) == 0
    other = ((1, math.log(0.25)), (2, math.log(0.5)))
    by_hand = 0.5 * math.log(0.5 / 0.25) + 0.25 * math.log(0.25 / 0.5)
    assert kl_over_top(same, other) == pytest.approx(by_hand)


def test_a_token_the_engine_does_not_list_counts_among_all_others() -> None:
    right = ((1, math.log(0.5)), (2, math.log(0.25)))
    seen = ((1, math.log(0.25)), (9, math.log(0.5)))
    assert kl_over_top(right, seen) == pytest.approx(0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))
