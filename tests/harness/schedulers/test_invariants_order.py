"""Tests of invariants of order and ends.

Requests are served first come, first served; each request ends once; and an idle engine holds no blocks.
"""

from dataclasses import replace
from typing import Any

import pytest

from harness.suites.schema import Prompt, Request
from harness.types import Run, Token
from tests.helpers.harness import Simulated, a_request, doctored, simulate
from tests.helpers.invariants import END, GOOD, IDLE, QUEUE, RUNNING, SEEN, broken, checked, step_where

# --- first in, first out ---------------------------------------------------------------------------------------


def test_a_queue_out_of_order() -> None:
    seen = simulate(a_request(60, 3), a_request(60, 3), a_request(60, 3), max_num_seqs=1)
    broken(
        checked(seen, doctored(seen.run, 1, waiting=(2, 1))),
        QUEUE,
        "step 1: the queue is 2 1, but must be 1 2 (in order of arrival)",
    )


def test_a_request_that_overtakes() -> None:
    swap = {0: 1, 1: 0}
    seen = simulate(a_request(60, 3), a_request(60, 3, join_step=1), max_num_seqs=1)
    named = ("waiting", "running", "outputs", "finished")
    swapped: list[dict[str, Any]] = [
        {name: tuple(swap[i] for i in getattr(step, name)) for name in named} for step in seen.run.steps
    ]
    steps = tuple(step._replace(**cells) for step, cells in zip(seen.run.steps, swapped, strict=True))
    # Both were queued at the start, and 1 was prefilled first.
    start = steps[0]._replace(waiting=(0, 1))
    both = seen._replace(requests=(a_request(60, 3), a_request(60, 3)))
    verdict = checked(both, replace(seen.run, steps=(start, *steps[1:])))
    broken(verdict, QUEUE, "step 1: request 1 was prefilled, but the queue was 0 1")


def test_a_request_that_waits_before_it_came() -> None:
    early = SEEN._replace(requests=(SEEN.requests[0], a_request(10, 3, join_step=3)))
    broken(checked(early), QUEUE, "step 2: the queue is 1, but must be none (in order of arrival)")


# --- ends ------------------------------------------------------------------------------------------------------


def test_a_request_that_finishes_twice() -> None:
    seen = simulate(a_request(60, 2), a_request(60, 2), max_num_seqs=1)
    ends = [step.step for step in seen.run.steps if step.finished]
    run = doctored(seen.run, ends[1], finished=(1, 0))
    verdict = checked(seen, run)
    assert f"step {ends[1]}: request 0 finished more than once, at steps {ends[0]} {ends[1]}" in verdict.details
    assert not verdict.passed


def test_a_sequence_that_leaves_without_finishing() -> None:
    broken(
        checked(SEEN, doctored(SEEN.run, 6, finished=())),
        END,
        "step 6: request 0 stopped running, but no request finished",
        "step 7: request 0 never finished",
    )


def test_a_sequence_that_finishes_and_stays() -> None:
    verdict = checked(SEEN, doctored(SEEN.run, 5, running=(1, 0)))
    assert verdict.headline.startswith("invariant broken at step 5: no request stopped running, but request 1 finished")
    assert END in verdict.rule


def test_a_request_that_never_ran() -> None:
    three = SEEN._replace(
        specs=[*SEEN.specs, replace(SEEN.specs[1], request_id=2)],
        requests=(*SEEN.requests, a_request(10, 3, join_step=2)),
    )
    run = replace(SEEN.run, tokens=(*SEEN.run.tokens, ()))
    broken(
        checked(three, run),
        QUEUE,
        "step 2: the queue is 1, but must be 1 2 (in order of arrival)",
        "step 7: request 2 never finished",
    )


def test_a_sequence_that_is_not_put_in_front() -> None:
    verdict = checked(SEEN, doctored(SEEN.run, 3, running=(0, 1)))
    broken(verdict, RUNNING, "step 3: the running requests are 0 1, but must be 1 0 (newest first)")


def test_an_idle_step_while_a_request_waits() -> None:
    seen = GOOD["a pause between two"]
    number = step_where(seen, kind="prefill", outputs=(1,))
    steps = [*seen.run.steps[:number], seen.run.steps[number - 1]._replace(step=number)]
    steps += [s._replace(step=s.step + 1) for s in seen.run.steps[number:]]
    verdict = checked(seen, replace(seen.run, steps=tuple(steps)))
    broken(verdict, QUEUE, f"step {number}: no request ran, although running was none and waiting was 1")


def test_fewer_tokens_than_min_tokens() -> None:
    first = replace(SEEN.specs[0], min_tokens=5, stop_token_ids=(5,))
    request = a_request(60, 5, min_tokens=5, stop_token_ids=(5,))
    seen = SEEN._replace(specs=[first, SEEN.specs[1]], requests=(request, SEEN.requests[1]))
    assert checked(seen).passed
    broken(
        checked(seen, with_tokens(seen, 4)), END, "step 6: request 0 finished with 4 tokens, but its min_tokens is 5"
    )


def with_tokens(seen: Simulated, count: int) -> Run:
    return replace(seen.run, tokens=((Token(5),) * count, *seen.run.tokens[1:]))


def test_more_tokens_than_max_tokens() -> None:
    broken(
        checked(SEEN, with_tokens(SEEN, 6)),
        END,
        "step 6: request 0 finished with 6 of 5 tokens",
        "step 7: request 0 got 6 tokens, but max_tokens is 5",
    )


def test_fewer_tokens_than_max_tokens_without_another_reason() -> None:
    broken(checked(SEEN, with_tokens(SEEN, 4)), END, "step 6: request 0 finished with 4 of 5 tokens")


@pytest.mark.parametrize(
    "early",
    [{"ignore_eos": False}, {"stop": ("x",)}, {"stop_token_ids": (3,)}, {"prompt": Prompt(text="Return")}],
    ids=lambda more: next(iter(more)),
)
def test_fewer_tokens_are_allowed_where_something_else_may_end_it(early: dict[str, Any]) -> None:
    first = SEEN.requests[0]
    may_end = Request(**{"prompt": first.prompt, "max_tokens": first.max_tokens, **early})
    stopped = SEEN._replace(requests=(may_end, SEEN.requests[1]))
    assert checked(stopped, with_tokens(SEEN, 4)).passed
    assert not checked(stopped, with_tokens(SEEN, 6)).passed


def test_an_abort_excuses_only_the_aborted_one_and_only_then() -> None:
    seen = GOOD["aborted while it runs"]
    assert checked(seen).passed
    unsaid = seen._replace(requests=(a_request(60, 9), seen.requests[1]))
    broken(
        checked(unsaid),
        END,
        "step 4: request 0 stopped running, but no request finished",
        f"step {seen.run.steps[-1].step}: request 0 never finished",
    )
    later = seen._replace(requests=(a_request(60, 9, abort_step=5), seen.requests[1]))
    broken(checked(later), END, "step 4: request 0 stopped running, but no request finished")


# --- at the end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ({"waiting": (1,)}, "tkv 0; waiting 1; running none; reserved 0; used 0"),
        ({"reserved": 2, "used": 2}, "tkv 0; waiting none; running none; reserved 2; used 2"),
        ({"reserved": 1}, "tkv 0; waiting none; running none; reserved 1; used 0"),
    ],
    ids=["waiting", "blocks", "a reservation"],
)
def test_something_left_when_idle(left: dict[str, Any], message: str) -> None:
    what = f"step 7: no request is left, but these must be 0 or none: {message}"
    broken(checked(SEEN, doctored(SEEN.run, 7, **left)), IDLE, what)


def test_tkv_that_is_not_put_back_when_idle() -> None:
    verdict = checked(SEEN, doctored(SEEN.run, 7, tkv=68))
    broken(
        verdict,
        IDLE,
        "step 7: no request is left, but these must be 0 or none: "
        "tkv 68; waiting none; running none; reserved 0; used 0",
    )


def test_an_idle_step_that_keeps_tkv_between_two_batches() -> None:
    seen = GOOD["a pause between two"]
    broken(
        checked(seen, doctored(seen.run, 8, tkv=64)),
        IDLE,
        "step 8: no request runs, but tkv is 64, 0 blocks are reserved, and 0 are used",
    )


def test_a_run_that_was_broken_off_is_not_looked_at_further() -> None:
    run = replace(doctored(SEEN.run, 4, used=99), unfinished="the engine failed in step 8: RuntimeError: no")
    verdict = checked(SEEN, run)
    assert verdict.headline == "invariants: the engine failed in step 8: RuntimeError: no"
    assert not verdict.passed
    assert END in verdict.rule


def test_of_many_broken_steps_the_first_leads_and_eight_are_shown() -> None:
    seen = simulate(a_request(60, 30))
    run = replace(seen.run, steps=tuple(s._replace(used=s.used and 9) for s in seen.run.steps))
    verdict = checked(seen, run)
    assert verdict.headline == "invariant broken at step 1: 9 blocks are used, but only 2 are reserved (and 11 more)"
    assert len(verdict.details) == 8
    assert [line.split(":")[0] for line in verdict.details[::3]] == ["step 1", "step 2", "step 3"]


def test_an_abort_that_is_ignored() -> None:
    seen = simulate(a_request(60, 6), a_request(60, 6), max_num_seqs=1)
    ran = checked(seen._replace(requests=(a_request(60, 6, abort_step=3), seen.requests[1])))
    assert not ran.passed
    assert ran.headline.startswith("invariant broken at step 3: these requests were aborted and still wait or run: 0")
    assert '"Aborts"' in ran.rule
    waited = checked(seen._replace(requests=(seen.requests[0], a_request(60, 6, abort_step=2))))
    assert waited.headline.startswith(
        "invariant broken at step 2: these requests were aborted and still wait or run: 1"
    )


def test_a_block_that_two_sequences_hold() -> None:
    two = simulate(a_request(60, 6), a_request(60, 6))
    assert checked(two).passed
    decode = next(step for step in two.run.steps if step.kind == "decode")
    shared = doctored(two.run, decode.step, block_tables=(decode.block_tables[1], decode.block_tables[1]))
    verdict = checked(two, shared)
    assert not verdict.passed
    assert f"block {decode.block_tables[1][0]} belongs to" in " ".join((verdict.headline, *verdict.details))


def test_a_sequence_that_holds_the_padding_block() -> None:
    one = simulate(a_request(60, 6))
    verdict = checked(one, doctored(one.run, 1, block_tables=((0,),)))
    assert "step 1: request 0 holds the padding block" in verdict.details


def test_a_sequence_that_loses_a_block() -> None:
    one = simulate(a_request(60, 6))
    verdict = checked(one, doctored(one.run, 3, block_tables=((9, 8),)))
    assert verdict.headline.startswith(
        "invariant broken at step 3: the block table of request 0 was 1 2, and is now 9 8"
    )
