"""Tests of invariants that are checked after every step.

Correct runs violate none, and each kind of error violates its own invariant.
"""

from dataclasses import replace
from typing import Any

import pytest

from harness.schedulers.continuous.invariants import check_invariants
from harness.types import Run, SchedulingLimits
from tests.helpers.harness import Simulated, a_request, doctored, simulate
from tests.helpers.invariants import GOOD, QUEUE, SEEN, broken, checked, step_where
from tests.helpers.narrow import present

BLOCKS = "used ≤ reserved ≤ available"
BATCH = "never more than max_num_seqs sequences run"
BATCH_TKV = "batch size x tkv never exceeds max_batch_tkv_limit"
TKV = "whole blocks of padding that all sequences have are removed; a prompt that is longer than tkv makes tkv grow"
HELD = "every sequence uses ceil(tkv/64) blocks"
OUTPUTS = "only a running sequence gets a token, and only one token in a step"


# --- good runs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", GOOD.values(), ids=GOOD.keys())
def test_a_good_run_breaks_no_invariant(seen: Simulated) -> None:
    verdict = checked(seen)
    assert verdict.passed, verdict
    assert verdict.headline == f"invariants hold after each of {len(seen.run.steps)} observations"


def test_limits_that_are_not_known_are_not_checked() -> None:
    assert check_invariants(SEEN.run, SEEN.specs, SEEN.requests, SchedulingLimits()).passed


def test_blocks_that_cannot_be_seen_are_not_checked() -> None:
    steps = tuple(step._replace(reserved=None, used=None) for step in SEEN.run.steps)
    assert checked(SEEN, replace(SEEN.run, steps=steps)).passed


# --- one observation that is wrong -----------------------------------------------------------------------------

DOCTORED: dict[str, tuple[int, dict[str, Any], str, str]] = {
    "more blocks used than reserved": (4, {"used": 5}, BLOCKS, "5 blocks are used, but only 4 are reserved"),
    "more blocks reserved than available": (
        4,
        {"reserved": 36},
        BLOCKS,
        "36 blocks are reserved, but only 35 are available",
    ),
    "fewer blocks than sequences": (4, {"used": 1}, HELD, "1 blocks are used, but the sequences need 4"),
    "a reservation that changes": (
        4,
        {"reserved": 5},
        HELD,
        "5 blocks are reserved, but the sequences need 4 to run to max_tokens",
    ),
    "a decode moves tkv by two": (6, {"tkv": 69}, TKV, "a decode changed tkv from 67 to 69, expected 68"),
    "a decode leaves tkv": (6, {"tkv": 67}, TKV, "a decode changed tkv from 67 to 67, expected 68"),
    "a decode adds padding": (6, {"tkv": 132}, TKV, "a decode changed tkv from 67 to 132, expected 68"),
    "a decode removes what is not padding": (6, {"tkv": 4}, TKV, "a decode changed tkv from 67 to 4, expected 68"),
    "a decode forgets a sequence": (4, {"outputs": (1,)}, OUTPUTS, "requests 1 0 ran, but request 1 got a token"),
    "tokens in another order": (
        4,
        {"outputs": (0, 1), "block_tables": ()},
        OUTPUTS,
        "requests 1 0 ran, but requests 0 1 got a token",
    ),
    "a token for a waiting request": (
        2,
        {"outputs": (0, 1), "running": (0,)},
        OUTPUTS,
        "request 0 ran, but requests 0 1 got a token",
    ),
    "a prefill with two tokens": (
        3,
        {"outputs": (1, 0)},
        OUTPUTS,
        "a prefill gives a token to exactly one request, but requests 1 0 got one",
    ),
    "a request waits and runs": (4, {"waiting": (1,)}, QUEUE, "the queue is 1, but must be none (in order of arrival)"),
    "a request runs twice": (4, {"running": (1, 1, 0)}, OUTPUTS, "running lists a sequence twice: 1 1 0"),
    "an end without a token": (
        3,
        {"finished": (0,), "running": (1,)},
        OUTPUTS,
        "request 0 finished, but request 1 got a token",
    ),
}


@pytest.mark.parametrize(("step", "change", "rule", "message"), DOCTORED.values(), ids=DOCTORED)
def test_a_wrong_observation_breaks_its_invariant(step: int, change: dict[str, Any], rule: str, message: str) -> None:
    broken(checked(SEEN, doctored(SEEN.run, step, **change)), rule, f"step {step}: {message}")


# --- blocks, batch, batch x tkv -------------------------------------------------------------------------------------


def test_as_many_blocks_as_are_available_may_be_reserved() -> None:
    assert checked(SEEN, available_blocks=4).passed
    assert not checked(SEEN, available_blocks=3).passed


def test_more_sequences_than_the_batch_holds() -> None:
    broken(
        checked(SEEN, max_num_seqs=1),
        BATCH,
        "step 3: 2 sequences run, but max_num_seqs is 1",
        "step 4: 2 sequences run, but max_num_seqs is 1",
    )


def test_a_batch_as_large_as_the_limit_is_allowed() -> None:
    assert checked(SEEN, max_num_seqs=2).passed


def test_batch_times_tkv_beyond_the_batch_tkv() -> None:
    broken(
        checked(SEEN, max_batch_tkv_limit=133),
        BATCH_TKV,
        "step 5: batch size x tkv: 2 x 67 = 134 exceeds max_batch_tkv_limit 133",
    )


def test_batch_tkv_up_to_the_limit_is_allowed() -> None:
    assert checked(SEEN, max_batch_tkv_limit=134).passed
    alone = simulate(a_request(60, 5))
    assert checked(alone, max_batch_tkv_limit=10).passed


# --- how tkv moves ---------------------------------------------------------------------------------------------


def test_a_prefill_that_moves_tkv_by_less_than_a_block() -> None:
    last_step = simulate(a_request(60, 9, abort_step=3), a_request(10, 1, join_step=2))
    assert checked(last_step).passed
    for tkv in (66, 129):
        what = f"step 3: a prefill changed tkv from 65 to {tkv}, expected 65"
        broken(checked(last_step, doctored(last_step.run, 3, tkv=tkv)), TKV, what)


def test_a_new_batch_that_does_not_start_at_the_prompt_rounded_up() -> None:
    alone = simulate(a_request(60, 1))
    for tkv in (60, 128):
        what = f"step 1: a prefill changed tkv from 0 to {tkv}, expected 64"
        broken(checked(alone, doctored(alone.run, 1, tkv=tkv)), TKV, what)


GROWS = GOOD["tkv grows for a longer prompt"]
SHRINKS = GOOD["padding is removed"]


def test_a_longer_prompt_that_makes_tkv_grow_by_a_block_too_many() -> None:
    number = step_where(GROWS, kind="prefill", outputs=(1,))
    before, after = (GROWS.run.steps[at].tkv_or_0 for at in (number - 1, number))
    assert after == before + 192
    what = f"step {number}: a prefill changed tkv from {before} to {after + 64}, expected {after}"
    broken(checked(GROWS, doctored(GROWS.run, number, tkv=after + 64)), TKV, what)


def first_removal(run: Run) -> int:
    """Return the number of the first decode that removes a block of padding, so that tkv becomes smaller."""
    steps = run.steps
    return next(s.step for s in steps if s.kind == "decode" and s.tkv_or_0 < steps[s.step - 1].tkv_or_0)


def test_padding_that_all_share_and_that_stays() -> None:
    number = first_removal(SHRINKS.run)
    before, after = (SHRINKS.run.steps[at].tkv_or_0 for at in (number - 1, number))
    shared = before + 1 - after
    assert shared == 192
    for tkv in (before + 1, after + 64):
        removed = f"after removing {shared} tokens of shared padding"
        what = f"step {number}: a decode changed tkv from {before} to {tkv}, expected {after}, {removed}"
        broken(checked(SHRINKS, doctored(SHRINKS.run, number, tkv=tkv)), TKV, what)


def test_padding_that_stays_for_good() -> None:
    """A block of padding that is not removed must be reported once, at the step that should have removed it.

    The later steps agree with each other, so they must not be reported.
    """
    seen = simulate(a_request(10, 40), a_request(100, 3, join_step=2))
    number = first_removal(seen.run)
    last = seen.run.steps[-1].step
    steps = [s._replace(tkv=s.tkv_or_0 + 64) if number <= s.step < last else s for s in seen.run.steps]
    verdict = checked(seen, replace(seen.run, steps=tuple(steps)))
    assert verdict.headline.startswith(f"invariant broken at step {number}: a decode changed tkv from ")


# --- what is held ----------------------------------------------------------------------------------------------


def test_a_block_that_is_not_taken_where_tkv_fills_one() -> None:
    seen = simulate(a_request(60, 9))
    steps = [s._replace(used=min(present(s.used), 1), block_tables=()) for s in seen.run.steps]
    broken(
        checked(seen, replace(seen.run, steps=tuple(steps))),
        HELD,
        "step 2: 1 blocks are used, but the sequences need 2",
    )


def test_a_block_without_a_holder() -> None:
    tables = SEEN.run.steps[4].block_tables
    verdict = checked(SEEN, doctored(SEEN.run, 4, block_tables=(tables[0][:1], tables[1])))
    what = "step 4: the block table of request 1 was 3 4, and is now 3"
    broken(verdict, "a block belongs to one sequence", what)
    assert "step 4: 4 blocks are used, but the block tables have 3" in verdict.details
