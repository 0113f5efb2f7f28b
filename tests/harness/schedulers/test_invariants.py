"""Invariants after every step: correct runs pass, and each kind of error violates its own invariant."""

import re
from dataclasses import replace

import pytest

from harness.schedulers.continuous.invariants import check_invariants
from harness.suites.schema import Prompt, Request
from harness.types import Run, SchedulingLimits, Token, Verdict
from tests.helpers.harness import Simulated, a_request, doctored, simulate, two_that_overlap

SEEN = two_that_overlap()
BLOCKS = "used ≤ reserved ≤ available"
BATCH = "never more than max_num_seqs sequences run"
BATCH_TKV = "batch size x tkv never exceeds max_batch_tkv_limit"
TKV = "whole blocks of padding that all share go; a longer prompt makes tkv grow"
HELD = "used = ceil(tkv/64)"
RUNNING = "running is newest first"
OUTPUTS = "only a running sequence gets a token, one a step"
QUEUE = "strict first in, first out"
END = "every sequence ends exactly once: with its tokens, or where it fills the context"
IDLE = "nothing is held and tkv is 0 when nothing is left to do"


def judged(seen: Simulated, run: Run | None = None, **limits: int) -> Verdict:
    effective = SchedulingLimits(**limits) if limits else seen.limits
    return check_invariants(run or seen.run, seen.specs, seen.requests, effective)


def broken(verdict: Verdict, rule: str, first: str, *others: str) -> None:
    """Check that ``first`` is reported first, with its rule, and ``others`` among the rest."""
    assert not verdict.passed
    step, what = first.split(": ", 1)
    assert re.sub(r" \(and \d+ more\)$", "", verdict.headline) == f"invariant broken at {step}: {what}"
    assert rule in verdict.rule
    assert set(others) <= set(verdict.details)


# --- good runs -------------------------------------------------------------------------------------------------

GOOD = {
    "two that overlap": SEEN,
    "one alone": simulate(a_request(60, 5)),
    "one token each": simulate(a_request(60, 1), a_request(60, 1)),
    "batch of one": simulate(a_request(60, 3), a_request(60, 3), max_num_seqs=1),
    "more than the batch": simulate(*[a_request(20 * i + 1, 10 + i) for i in range(7)], max_num_seqs=2),
    "tkv grows for a longer prompt": simulate(a_request(10, 30), a_request(200, 5, join_step=3)),
    "padding is removed": simulate(a_request(200, 3), a_request(10, 90), a_request(10, 20, join_step=30)),
    "few blocks": simulate(*[a_request(100, 40)] * 4, available_blocks=8),
    "little batch x tkv": simulate(*[a_request(64, 40)] * 4, max_batch_tkv_limit=230),
    "a pause between two": simulate(a_request(10, 2), a_request(10, 2, join_step=20)),
    "aborted while it waits": simulate(a_request(60, 5), a_request(60, 5, abort_step=2), max_num_seqs=1),
    "aborted before its first step": simulate(a_request(60, 5, abort_step=0)),
    "aborted while it runs": simulate(a_request(60, 9, abort_step=4), a_request(60, 9, join_step=2)),
    "aborted in the step it would have ended": simulate(a_request(60, 3, abort_step=3), a_request(60, 9)),
    "aborted after its end": simulate(a_request(60, 3, abort_step=7), a_request(60, 9)),
    "aborted all at once": simulate(*[a_request(60, 9, abort_step=5)] * 3),
}


@pytest.mark.parametrize("seen", GOOD.values(), ids=GOOD.keys())
def test_a_good_run_breaks_no_invariant(seen: Simulated) -> None:
    verdict = judged(seen)
    assert verdict.passed, verdict
    assert verdict.headline == f"invariants hold after each of {len(seen.run.steps)} observations"


def test_limits_that_are_not_known_are_not_checked() -> None:
    assert check_invariants(SEEN.run, SEEN.specs, SEEN.requests, SchedulingLimits()).passed


def test_blocks_that_cannot_be_seen_are_not_checked() -> None:
    steps = tuple(step._replace(reserved=None, used=None) for step in SEEN.run.steps)
    assert judged(SEEN, replace(SEEN.run, steps=steps)).passed


# --- blocks, batch, batch x tkv -------------------------------------------------------------------------------------


def test_more_blocks_used_than_reserved() -> None:
    broken(judged(SEEN, doctored(SEEN.run, 4, used=5)), BLOCKS, "step 4: 5 blocks used, 4 reserved")


def test_more_blocks_reserved_than_available() -> None:
    broken(judged(SEEN, doctored(SEEN.run, 4, reserved=36)), BLOCKS, "step 4: 36 reserved, 35 available")


def test_as_many_blocks_as_are_available_may_be_reserved() -> None:
    assert judged(SEEN, available_blocks=4).passed
    assert not judged(SEEN, available_blocks=3).passed


def test_fewer_blocks_than_sequences() -> None:
    broken(judged(SEEN, doctored(SEEN.run, 4, used=1)), HELD, "step 4: 1 blocks used, 4 hold what runs")


def test_more_sequences_than_the_batch_holds() -> None:
    broken(
        judged(SEEN, max_num_seqs=1),
        BATCH,
        "step 3: 2 sequences run, max_num_seqs is 1",
        "step 4: 2 sequences run, max_num_seqs is 1",
    )


def test_a_batch_as_large_as_the_limit_is_allowed() -> None:
    assert judged(SEEN, max_num_seqs=2).passed


def test_batch_times_tkv_beyond_the_batch_tkv() -> None:
    broken(judged(SEEN, max_batch_tkv_limit=133), BATCH_TKV, "step 5: 2 x 67 = 134 exceeds max_batch_tkv_limit 133")


def test_batch_tkv_up_to_the_limit_is_allowed_and_a_lone_sequence_is_not_held_to_it() -> None:
    assert judged(SEEN, max_batch_tkv_limit=134).passed
    alone = simulate(a_request(60, 5))
    assert judged(alone, max_batch_tkv_limit=10).passed


# --- how tkv moves ---------------------------------------------------------------------------------------------


def test_a_decode_that_moves_tkv_by_two() -> None:
    broken(judged(SEEN, doctored(SEEN.run, 6, tkv=69)), TKV, "step 6: a decode moved tkv from 67 to 69, not to 68")


def test_a_decode_that_leaves_tkv() -> None:
    broken(judged(SEEN, doctored(SEEN.run, 6, tkv=67)), TKV, "step 6: a decode moved tkv from 67 to 67, not to 68")


def test_a_decode_that_adds_a_block_of_padding() -> None:
    broken(judged(SEEN, doctored(SEEN.run, 6, tkv=132)), TKV, "step 6: a decode moved tkv from 67 to 132, not to 68")


def test_a_decode_that_removes_a_block_that_is_no_padding() -> None:
    broken(judged(SEEN, doctored(SEEN.run, 6, tkv=4)), TKV, "step 6: a decode moved tkv from 67 to 4, not to 68")


def test_a_prefill_that_moves_tkv_by_less_than_a_block() -> None:
    last_step = simulate(a_request(60, 9, abort_step=3), a_request(10, 1, join_step=2))
    assert judged(last_step).passed
    for tkv in (66, 129):
        what = f"step 3: a prefill moved tkv from 65 to {tkv}, not to 65"
        broken(judged(last_step, doctored(last_step.run, 3, tkv=tkv)), TKV, what)


def test_a_new_batch_that_does_not_start_at_the_prompt_rounded_up() -> None:
    alone = simulate(a_request(60, 1))
    for tkv in (60, 128):
        what = f"step 1: a prefill moved tkv from 0 to {tkv}, not to 64"
        broken(judged(alone, doctored(alone.run, 1, tkv=tkv)), TKV, what)


GROWS = GOOD["tkv grows for a longer prompt"]
SHRINKS = GOOD["padding is removed"]


def step_where(seen: Simulated, **values: object) -> int:
    """Return the first step whose observation has these values."""
    return next(s.step for s in seen.run.steps if all(getattr(s, name) == value for name, value in values.items()))


def test_a_longer_prompt_that_makes_tkv_grow_by_a_block_too_many() -> None:
    number = step_where(GROWS, kind="prefill", outputs=(1,))
    before, after = GROWS.run.steps[number - 1].tkv, GROWS.run.steps[number].tkv
    assert after == before + 192
    what = f"step {number}: a prefill moved tkv from {before} to {after + 64}, not to {after}"
    broken(judged(GROWS, doctored(GROWS.run, number, tkv=after + 64)), TKV, what)


def test_padding_that_all_share_and_that_stays() -> None:
    number = next(s.step for s in SHRINKS.run.steps if s.kind == "decode" and s.tkv < SHRINKS.run.steps[s.step - 1].tkv)
    before, after = SHRINKS.run.steps[number - 1].tkv, SHRINKS.run.steps[number].tkv
    shared = before + 1 - after
    assert shared == 192
    for tkv in (before + 1, after + 64):
        what = f"step {number}: a decode moved tkv from {before} to {tkv}, not to {after}, {shared} of padding go"
        broken(judged(SHRINKS, doctored(SHRINKS.run, number, tkv=tkv)), TKV, what)


def test_padding_that_stays_for_good() -> None:
    """Every later step is a plain decode after the wrong one."""
    seen = simulate(a_request(10, 40), a_request(100, 3, join_step=2))
    number = next(s.step for s in seen.run.steps if s.kind == "decode" and s.tkv < seen.run.steps[s.step - 1].tkv)
    last = seen.run.steps[-1].step
    steps = [s._replace(tkv=s.tkv + 64) if number <= s.step < last else s for s in seen.run.steps]
    verdict = judged(seen, replace(seen.run, steps=tuple(steps)))
    assert verdict.headline.startswith(f"invariant broken at step {number}: a decode moved tkv from ")


# --- what is held ----------------------------------------------------------------------------------------------


def test_a_block_that_is_not_taken_where_tkv_fills_one() -> None:
    seen = simulate(a_request(60, 9))
    steps = [s._replace(used=min(s.used, 1), block_tables=()) for s in seen.run.steps]
    broken(judged(seen, replace(seen.run, steps=tuple(steps))), HELD, "step 2: 1 blocks used, 2 hold what runs")


def test_a_reservation_that_changes_on_the_way() -> None:
    broken(judged(SEEN, doctored(SEEN.run, 4, reserved=5)), HELD, "step 4: 5 blocks reserved, 4 are the worst case")


def test_a_block_without_a_holder() -> None:
    tables = SEEN.run.steps[4].block_tables
    verdict = judged(SEEN, doctored(SEEN.run, 4, block_tables=(tables[0][:1], tables[1])))
    broken(verdict, "a block belongs to one sequence", f"step 4: 1 held {tables[0]}, now {tables[0][:1]}")
    assert "step 4: 4 blocks are used, 3 are in block tables" in verdict.details


# --- who gets tokens -------------------------------------------------------------------------------------------


def test_a_decode_that_forgets_a_running_sequence() -> None:
    broken(judged(SEEN, doctored(SEEN.run, 4, outputs=(1,))), OUTPUTS, "step 4: (1, 0) ran, tokens went to (1,)")


def test_tokens_in_another_order_than_running() -> None:
    broken(
        judged(SEEN, doctored(SEEN.run, 4, outputs=(0, 1), block_tables=())),
        OUTPUTS,
        "step 4: (1, 0) ran, tokens went to (0, 1)",
    )


def test_a_token_for_a_sequence_that_does_not_run() -> None:
    run = doctored(SEEN.run, 2, outputs=(0, 1), running=(0,))
    verdict = judged(SEEN, run)
    assert verdict.headline.startswith("invariant broken at step 2: (0,) ran, tokens went to (0, 1)")
    assert OUTPUTS in verdict.rule


def test_a_prefill_that_gives_tokens_to_two() -> None:
    broken(judged(SEEN, doctored(SEEN.run, 3, outputs=(1, 0))), OUTPUTS, "step 3: a prefill gave tokens to (1, 0)")


def test_a_request_that_waits_and_runs() -> None:
    broken(
        judged(SEEN, doctored(SEEN.run, 4, waiting=(1,))),
        QUEUE,
        "step 4: waiting 1, in order of arrival none",
    )


def test_a_request_that_runs_twice() -> None:
    verdict = judged(SEEN, doctored(SEEN.run, 4, running=(1, 1, 0)))
    assert verdict.headline.startswith("invariant broken at step 4: (1, 1, 0) run, one of them twice")
    assert OUTPUTS in verdict.rule


def test_a_sequence_that_finishes_without_a_token() -> None:
    run = doctored(SEEN.run, 3, finished=(0,), running=(1,))
    verdict = judged(SEEN, run)
    assert verdict.headline.startswith("invariant broken at step 3: (0,) finished, tokens went to (1,)")
    assert OUTPUTS in verdict.rule


# --- first in, first out ---------------------------------------------------------------------------------------


def test_a_queue_out_of_order() -> None:
    seen = simulate(a_request(60, 3), a_request(60, 3), a_request(60, 3), max_num_seqs=1)
    broken(judged(seen, doctored(seen.run, 1, waiting=(2, 1))), QUEUE, "step 1: waiting 2 1, in order of arrival 1 2")


def test_a_request_that_overtakes() -> None:
    swap = {0: 1, 1: 0}
    seen = simulate(a_request(60, 3), a_request(60, 3, join_step=1), max_num_seqs=1)
    named = ("waiting", "running", "outputs", "finished")
    steps = tuple(
        step._replace(**{name: tuple(swap[i] for i in getattr(step, name)) for name in named})
        for step in seen.run.steps
    )
    # Both were queued at the start, and 1 was prefilled first.
    start = steps[0]._replace(waiting=(0, 1))
    both = seen._replace(requests=(a_request(60, 3), a_request(60, 3)))
    verdict = judged(both, replace(seen.run, steps=(start, *steps[1:])))
    broken(verdict, QUEUE, "step 1: 1 was prefilled, 0 1 waited")


def test_a_request_that_waits_before_it_came() -> None:
    early = SEEN._replace(requests=(SEEN.requests[0], a_request(10, 3, join_step=3)))
    broken(judged(early), QUEUE, "step 2: waiting 1, in order of arrival none")


# --- ends ------------------------------------------------------------------------------------------------------


def test_a_request_that_finishes_twice() -> None:
    seen = simulate(a_request(60, 2), a_request(60, 2), max_num_seqs=1)
    ends = [step.step for step in seen.run.steps if step.finished]
    run = doctored(seen.run, ends[1], finished=(1, 0))
    verdict = judged(seen, run)
    assert f"step {ends[1]}: request 0 finished twice, at steps {ends}" in verdict.details
    assert not verdict.passed


def test_a_sequence_that_leaves_without_finishing() -> None:
    broken(
        judged(SEEN, doctored(SEEN.run, 6, finished=())),
        END,
        "step 6: [0] left, [] finished",
        "step 7: request 0 never finished",
    )


def test_a_sequence_that_finishes_and_stays() -> None:
    verdict = judged(SEEN, doctored(SEEN.run, 5, running=(1, 0)))
    assert verdict.headline.startswith("invariant broken at step 5: [] left, [1] finished")
    assert END in verdict.rule


def test_a_request_that_never_ran() -> None:
    three = SEEN._replace(
        specs=[*SEEN.specs, replace(SEEN.specs[1], request_id=2)],
        requests=(*SEEN.requests, a_request(10, 3, join_step=2)),
    )
    run = replace(SEEN.run, tokens=(*SEEN.run.tokens, ()))
    broken(
        judged(three, run),
        QUEUE,
        "step 2: waiting 1, in order of arrival 1 2",
        "step 7: request 2 never finished",
    )


def test_a_sequence_that_is_not_put_in_front() -> None:
    verdict = judged(SEEN, doctored(SEEN.run, 3, running=(0, 1)))
    broken(verdict, RUNNING, "step 3: running 0 1, newest first 1 0")


def test_an_idle_step_while_a_request_waits() -> None:
    seen = GOOD["a pause between two"]
    number = step_where(seen, kind="prefill", outputs=(1,))
    steps = [*seen.run.steps[:number], seen.run.steps[number - 1]._replace(step=number)]
    steps += [s._replace(step=s.step + 1) for s in seen.run.steps[number:]]
    verdict = judged(seen, replace(seen.run, steps=tuple(steps)))
    broken(verdict, QUEUE, f"step {number}: nothing ran, though none ran before and 1 waited")


def test_fewer_tokens_than_min_tokens() -> None:
    first = replace(SEEN.specs[0], min_tokens=5, stop_token_ids=(5,))
    request = a_request(60, 5, min_tokens=5, stop_token_ids=(5,))
    seen = SEEN._replace(specs=[first, SEEN.specs[1]], requests=(request, SEEN.requests[1]))
    assert judged(seen).passed
    broken(judged(seen, with_tokens(seen, 4)), END, "step 6: request 0 finished with 4 tokens, min_tokens is 5")


def with_tokens(seen: Simulated, count: int) -> Run:
    return replace(seen.run, tokens=((Token(5),) * count, *seen.run.tokens[1:]))


def test_more_tokens_than_max_tokens() -> None:
    broken(
        judged(SEEN, with_tokens(SEEN, 6)),
        END,
        "step 6: request 0 finished with 6 of 5 tokens",
        "step 7: request 0 got 6 tokens, max_tokens is 5",
    )


def test_fewer_tokens_than_max_tokens_without_another_reason() -> None:
    broken(judged(SEEN, with_tokens(SEEN, 4)), END, "step 6: request 0 finished with 4 of 5 tokens")


@pytest.mark.parametrize(
    "early",
    [{"ignore_eos": False}, {"stop": ("x",)}, {"stop_token_ids": (3,)}, {"prompt": Prompt(text="Return")}],
    ids=lambda more: next(iter(more)),
)
def test_fewer_tokens_are_allowed_where_something_else_may_end_it(early: dict[str, object]) -> None:
    first = SEEN.requests[0]
    may_end = Request(**{"prompt": first.prompt, "max_tokens": first.max_tokens, **early})
    stopped = SEEN._replace(requests=(may_end, SEEN.requests[1]))
    assert judged(stopped, with_tokens(SEEN, 4)).passed
    assert not judged(stopped, with_tokens(SEEN, 6)).passed


def test_an_abort_excuses_only_the_aborted_one_and_only_then() -> None:
    seen = GOOD["aborted while it runs"]
    assert judged(seen).passed
    unsaid = seen._replace(requests=(a_request(60, 9), seen.requests[1]))
    broken(
        judged(unsaid),
        END,
        "step 4: [0] left, [] finished",
        f"step {seen.run.steps[-1].step}: request 0 never finished",
    )
    later = seen._replace(requests=(a_request(60, 9, abort_step=5), seen.requests[1]))
    broken(judged(later), END, "step 4: [0] left, [] finished")


# --- at the end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ({"waiting": (1,)}, "tkv 0, waiting (1,), running (), reserved 0, used 0"),
        ({"reserved": 2, "used": 2}, "tkv 0, waiting (), running (), reserved 2, used 2"),
        ({"reserved": 1}, "tkv 0, waiting (), running (), reserved 1, used 0"),
    ],
    ids=["waiting", "blocks", "a reservation"],
)
def test_something_left_when_idle(left: dict[str, object], message: str) -> None:
    broken(judged(SEEN, doctored(SEEN.run, 7, **left)), IDLE, f"step 7: left behind: {message}")


def test_tkv_that_is_not_put_back_when_idle() -> None:
    verdict = judged(SEEN, doctored(SEEN.run, 7, tkv=68))
    broken(
        verdict,
        IDLE,
        "step 7: left behind: tkv 68, waiting (), running (), reserved 0, used 0",
    )


def test_an_idle_step_that_keeps_tkv_between_two_batches() -> None:
    seen = GOOD["a pause between two"]
    broken(
        judged(seen, doctored(seen.run, 8, tkv=64)), IDLE, "step 8: nothing runs at tkv 64, 0 blocks reserved, 0 used"
    )


def test_a_run_that_was_broken_off_is_not_looked_at_further() -> None:
    run = replace(doctored(SEEN.run, 4, used=99), unfinished="the engine failed in step 8: RuntimeError: no")
    verdict = judged(SEEN, run)
    assert verdict.headline == "invariants: the engine failed in step 8: RuntimeError: no"
    assert not verdict.passed
    assert END in verdict.rule


def test_of_many_broken_steps_the_first_leads_and_eight_are_shown() -> None:
    seen = simulate(a_request(60, 30))
    run = replace(seen.run, steps=tuple(s._replace(used=s.used and 9) for s in seen.run.steps))
    verdict = judged(seen, run)
    assert verdict.headline == "invariant broken at step 1: 9 blocks used, 2 reserved (and 11 more)"
    assert len(verdict.details) == 8
    assert [line.split(":")[0] for line in verdict.details[::3]] == ["step 1", "step 2", "step 3"]


def test_an_abort_that_is_ignored() -> None:
    seen = simulate(a_request(60, 6), a_request(60, 6), max_num_seqs=1)
    ran = judged(seen._replace(requests=(a_request(60, 6, abort_step=3), seen.requests[1])))
    assert not ran.passed
    assert ran.headline.startswith("invariant broken at step 3: [0] were aborted and still wait or run")
    assert '"Aborts"' in ran.rule
    waited = judged(seen._replace(requests=(seen.requests[0], a_request(60, 6, abort_step=2))))
    assert waited.headline.startswith("invariant broken at step 2: [1] were aborted and still wait or run")


def test_a_block_that_two_sequences_hold() -> None:
    two = simulate(a_request(60, 6), a_request(60, 6))
    assert judged(two).passed
    decode = next(step for step in two.run.steps if step.kind == "decode")
    shared = doctored(two.run, decode.step, block_tables=(decode.block_tables[1], decode.block_tables[1]))
    verdict = judged(two, shared)
    assert not verdict.passed
    assert f"block {decode.block_tables[1][0]} belongs to" in " ".join((verdict.headline, *verdict.details))


def test_a_sequence_that_holds_the_padding_block() -> None:
    one = simulate(a_request(60, 6))
    verdict = judged(one, doctored(one.run, 1, block_tables=((0,),)))
    assert "step 1: 0 holds the padding block" in verdict.details


def test_a_sequence_that_loses_a_block() -> None:
    one = simulate(a_request(60, 6))
    verdict = judged(one, doctored(one.run, 3, block_tables=((9, 8),)))
    assert verdict.headline.startswith("invariant broken at step 3: 0 held (1, 2), now (9, 8)")
