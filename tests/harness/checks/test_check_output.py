"""Tokens and logprobs of one sequence compared with an artificial reference, with every policy."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkpoints import Checkpoint
from harness.checks.output import check_output
from harness.checks.output.compare import close, kl_over_top
from harness.checks.output.policies import DEFAULT_BOUNDS, ResolvedPolicy, default_policy, resolve_policy
from harness.drivers.base import GOLDEN_TOKENS
from harness.references import Oracle, Reference, ReferenceToken
from harness.references.stopping import end_of, ended, wanted_for
from harness.suites.prompts import Vocabulary
from harness.suites.schema import POLICY_NAMES, Policy
from harness.types import RequestSpec, Token, Verdict

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


def reference(token_ids: Sequence[int], logprobs: Sequence[float] = LOGPROBS, margin: float = 3.0) -> Reference:
    """Return a reference in which each token is the most likely by ``margin``, then the next letter, then `z`."""
    return Reference(
        tuple(
            ReferenceToken(i, p, ((i, p), ((i + 1) % 26, p - margin), (25, p - margin - 1)))
            for i, p in zip(token_ids, logprobs, strict=False)
        )
    )


RIGHT = reference(LETTERS.encode(TEXT))


class Rescoring(Oracle):
    """An oracle with given results for an engine's tokens."""

    def __init__(self, said: Reference) -> None:
        super().__init__(may_compute=True)
        self.said = said

    def scored(self, checkpoint: Checkpoint, prompt: tuple[int, ...], token_ids: tuple[int, ...]) -> Reference:
        return self.said


def spec(max_tokens: int = 8, **more: Any) -> RequestSpec:
    return RequestSpec(3, (5, 6), max_tokens, **more)


def policy(name: str = "exact", precision: str = "float32", **bounds: float) -> ResolvedPolicy:
    return resolve_policy(Policy.model_validate({"name": name, **bounds}), precision, {GOLDEN_TOKENS})


def tokens(text: str, logprobs: Sequence[float | None] = LOGPROBS) -> list[Token]:
    return [Token(i, logprob, 1) for i, logprob in zip(LETTERS.encode(text), logprobs, strict=False)]


def checked(
    seen: Sequence[Token],
    request: RequestSpec | None = None,
    *,
    by: ResolvedPolicy | None = None,
    right: Reference = RIGHT,
    rescored: Reference | None = None,
    **more: Any,
) -> Verdict:
    oracle = Oracle(may_compute=False) if rescored is None else Rescoring(rescored)
    return check_output(
        request or spec(), seen, right, by or policy(), LETTERS, oracle=oracle, checkpoint=NO_CHECKPOINT, **more
    )


def marked(verdict: Verdict) -> list[int]:
    """Return the positions that the table marks as wrong."""
    return [int(line.split()[1]) for line in verdict.details if line.startswith(">")]


def wrong(verdict: Verdict) -> dict[str, list[str]]:
    return dict(verdict.data["wrong"])


# --- exact -----------------------------------------------------------------------------------------------------


def test_the_same_tokens_with_the_same_logprobs_pass_under_every_policy() -> None:
    for name in POLICY_NAMES:
        verdict = checked(tokens("abcdefgh"), by=policy(name))
        assert verdict.passed, verdict
        assert verdict.details == ()
    assert checked(tokens("abcdefgh")).headline == "request 3: 8 tokens as Hugging Face, logprobs within 0"
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
    assert "most likely at 2 (the best leads by 3):" in text
    listed = [" ".join(line.split()) for line in verdict.details]
    assert "Hugging Face 2 'c' -0.3000 3 'd' -3.3000 25 'z' -4.3000" in listed
    assert "engine 23 'x' -0.2000 2 'c' -1.9000 7 'h' -4.0000" in listed
    assert "1 of 8 positions are wrong: token at 1" in text


def test_it_goes_on_after_the_first_difference_and_sums_it_up() -> None:
    verdict = checked(tokens("axcxefgx", [*LOGPROBS[:4], -9.0, *LOGPROBS[5:]]))
    assert verdict.headline.startswith("request 3: token 1 is 23 'x'")
    assert wrong(verdict) == {"1": ["token"], "3": ["token"], "4": ["logprob"], "7": ["token"]}
    assert "4 of 8 positions are wrong: token at 3, logprob at 1" in verdict.details
    assert verdict.details[-1] == "logprobs are apart by 1.7 on average, by 8.5 at most (position 4)"


def test_the_most_likely_tokens_are_shown_at_the_first_difference() -> None:
    seen = [token._replace(top=r.top) for token, r in zip(tokens("abcdxfgh"), RIGHT.tokens, strict=False)]
    seen[1] = seen[1]._replace(logprob=-0.9)
    verdict = checked(seen)
    assert verdict.headline.startswith("request 3: logprob of token 1 is")
    assert [line for line in verdict.details if line.startswith("most likely at")] == [
        "most likely at 1 (the best leads by 3):",
        "most likely at 4 (the best leads by 3):",
    ]


def test_the_table_shows_the_tokens_around_the_first_difference() -> None:
    verdict = checked(tokens("abcdefghijxl"), spec(12))
    rows = [line[1:].split() for line in verdict.details if line[:3] in {">  ", "   "}]
    assert [int(words[0]) for words in rows if words[0] != "position"] == [7, 8, 9, 10, 11]
    row = next(line for line in verdict.details if line.startswith(">"))
    assert row.split() == [">", "10", "10", "'k'", "-1.1000", "23", "'x'", "-1.1000", "1", "token"]


def test_missing_and_extra_tokens_are_counted() -> None:
    missing = checked(tokens("abcde"))
    assert missing.headline == "request 3: 5 tokens came, Hugging Face has 8"
    assert marked(missing) == [5, 6, 7]
    assert checked([]).headline == "request 3: 0 tokens came, Hugging Face has 8"
    extra = checked(tokens("abcdefghij"))
    assert extra.headline == "request 3: 10 tokens came, Hugging Face stops after 8"
    assert marked(extra) == [8, 9]
    assert checked(tokens("axc")).headline.startswith("request 3: token 1 is 23 'x'")


def with_logprob(position: int, logprob: float | None) -> list[Token]:
    seen = tokens("abcdefgh")
    seen[position] = seen[position]._replace(logprob=logprob)
    return seen


def test_a_logprob_beyond_either_tolerance_fails() -> None:
    verdict = checked(with_logprob(2, -0.5), by=policy(abs_tol=10))
    assert verdict.headline == "request 3: logprob of token 2 is -0.5000, Hugging Face says -0.3000"
    assert marked(verdict) == [2]
    assert verdict.rule == (
        'docs/outputs.md "Policies": exact for float32: the same tokens, logprobs within rel_tol 0.35 and abs_tol 10'
    )
    assert checked(with_logprob(2, -0.32), by=policy(abs_tol=10)).passed
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
    """Return a reference in which `c` is more likely than `d` by ``margin`` at position 2."""
    close_call = ReferenceToken(2, -0.5, ((2, -0.5), (3, -0.5 - margin), (25, -6.0)))
    return Reference((*RIGHT.tokens[:2], close_call, *RIGHT.tokens[3:]))


def judged_after(margin: float, text: str, leads: Sequence[float]) -> Reference:
    """Return the reference for the engine's ``text``, whose tokens are less likely by ``leads`` from position 2 on."""
    own = parting(margin).tokens[:2]
    behind = tuple(
        ReferenceToken(i, -0.7, (((i, -0.7), (9, -4.0)) if not lead else ((9, -0.7 + lead), (i, -0.7))))
        for i, lead in zip(LETTERS.encode(text[2:]), leads, strict=True)
    )
    return Reference((*own, *behind))


def test_tokens_may_part_where_the_reference_wavers() -> None:
    said = judged_after(0.02, "abdxy", (0.02, 0, 0))
    seen = tokens("abdxy", (-0.1, -0.2, -0.7, -0.7, -0.7))
    verdict = checked(seen, spec(5), by=policy("divergence", margin=0.05), right=parting(0.02), rescored=said)
    assert verdict.passed, verdict
    assert verdict.headline.startswith("request 3: 5 tokens as accepted by the policy")


def test_tokens_must_not_part_where_the_reference_is_sure() -> None:
    said = judged_after(0.2, "abdxy", (0.2, 0, 0))
    seen = tokens("abdxy", (-0.1, -0.2, -0.7, -0.7, -0.7))
    verdict = checked(seen, spec(5), by=policy("divergence", margin=0.05), right=parting(0.2), rescored=said)
    assert wrong(verdict) == {"2": ["token"]}
    assert verdict.headline.startswith("request 3: token 2 is 3 'd', Hugging Face says 9 'j'")


def test_text_after_a_divergence_is_checked_on_the_engines_tokens() -> None:
    said = judged_after(0.02, "abdxy", (0.02, 1.5, 0))
    seen = tokens("abdxy", (-0.1, -0.2, -0.7, -0.7, -0.9))
    verdict = checked(seen, spec(5), by=policy("divergence", margin=0.05), right=parting(0.02), rescored=said)
    assert wrong(verdict) == {"3": ["token"], "4": ["logprob"]}


def test_after_a_divergence_the_requests_own_end_counts() -> None:
    said = judged_after(0.02, "abdxy", (0.02, 0, 0))
    seen = tokens("abdxy", (-0.1, -0.2, -0.7, -0.7, -0.7))
    by = policy("divergence", margin=0.05)
    early = checked(seen, spec(8), by=by, right=parting(0.02), rescored=said)
    assert early.headline.endswith("5 tokens came, which is not where the request's own stop conditions end it")
    stops = spec(8, stop_token_ids=LETTERS.encode("y"))
    assert checked(seen, stops, by=by, right=parting(0.02), rescored=said).passed


def test_before_min_tokens_the_best_is_the_best_of_those_that_may_come() -> None:
    """The reference's best token would end the text and is masked; the engine's next best token is right."""
    held_off = ReferenceToken(3, -2.0, ((SPECIAL, -0.1), (3, -2.0)))
    said = Reference((*parting(0.02).tokens[:2], *judged_after(0.02, "abd", (0.02,)).tokens[2:], held_off))
    seen = tokens("abdd", (-0.1, -0.2, -0.7, -2.0))
    request = spec(4, ignore_eos=False, min_tokens=4)
    assert checked(seen, request, by=policy("divergence", margin=0.05), right=parting(0.02), rescored=said).passed
    request = spec(4, ignore_eos=False)
    assert not checked(seen, request, by=policy("divergence", margin=0.05), right=parting(0.02), rescored=said).passed


def test_where_nothing_may_be_computed_a_divergence_is_a_failure_that_says_so() -> None:
    verdict = checked(tokens("abdxy"), spec(5), by=policy("divergence"), right=parting(0.001))
    assert not verdict.passed
    assert "run with --cb-references compute" in verdict.headline


# --- golden ----------------------------------------------------------------------------------------------------


def golden(position: int, **changes: Any) -> Verdict:
    seen = [token._replace(top=r.top) for token, r in zip(tokens("abcdefgh"), RIGHT.tokens, strict=False)]
    seen[position] = seen[position]._replace(**changes)
    return checked(seen, by=policy("golden", "float16"))


def test_golden_looks_at_logprob_rank_and_divergence_at_every_position() -> None:
    assert golden(2).passed
    assert wrong(golden(2, logprob=-0.3 - 0.081)) == {"2": ["logprob"]}
    assert golden(2, logprob=-0.3 - 0.079).passed
    assert wrong(golden(2, rank=2)) == {"2": ["rank"]}
    assert wrong(golden(2, top=((2, -1.2), (3, -0.9), (25, -4.0)))) == {"2": ["KL"]}
    assert "Hugging Face's: KL 0." in golden(2, top=((2, -1.2), (3, -0.9), (25, -4.0))).headline


def test_a_rank_may_be_lost_where_the_reference_wavers() -> None:
    seen = tokens("abcdefgh")
    seen[2] = seen[2]._replace(rank=2)
    assert checked(seen, by=policy("golden", margin=0.1), right=reference(LETTERS.encode(TEXT), margin=0.05)).passed


def test_an_engine_that_ignores_golden_tokens_is_reported() -> None:
    verdict = checked(tokens("abxdefgh"), by=policy("golden"))
    assert verdict.headline == "request 3: token 2 is 23 'x', but it was given 2 'c' to say"


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
    assert "the alternatives to token 2 are not Hugging Face's" in with_alternatives(2, ()).headline


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


def test_stop_strings_and_min_tokens() -> None:
    assert text_to_the_end(spec(min_tokens=3, stop=("bc",))) == "abc"
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
    assert checked(tokens("abcde"), stopping).headline == "request 3: 5 tokens came, Hugging Face stops after 4"
    assert checked(tokens("abc"), stopping).headline == "request 3: 3 tokens came, Hugging Face has 4"


# --- data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["abcdefgh", "abx", "abcdefghij"])
def test_the_data_of_a_verdict_holds_both_sequences_and_survives_a_journey_as_json(text: str) -> None:
    data = checked(tokens(text, [-0.1, None, *LOGPROBS[2:]])).data
    assert json.loads(json.dumps(data)) == data
    assert (data["request"], data["policy"]) == (3, "exact")
    assert (data["text"], data["reference_text"]) == (text, "abcdefgh")
    assert data["token_ids"] == list(LETTERS.encode(text))
    assert data["reference_token_ids"] == list(range(8))
    assert data["logprobs"][:3] == [-0.1, None, LOGPROBS[2]]
    assert data["reference_logprobs"] == list(LOGPROBS[:8])
