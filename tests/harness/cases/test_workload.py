"""Tests of running a workload step by step: when requests join and are aborted, and which rows are recorded."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cases.test import CaseError
from harness.cases.workload import Workload
from harness.drivers.base import Observation, StepRecord
from harness.runs.runner import run_workload
from harness.schedulers import scheduler_named
from harness.suites.expand import Configuration
from harness.suites.schema import Scheduler
from harness.types import (
    ChunkingSetup,
    RequestSpec,
    Run,
    SchedulerOptions,
    SchedulingLimits,
    Structure,
    Token,
    TokenBudgetSetup,
)
from tests.helpers.harness import IDLE, ScriptedSession, a_request, simulate, two_that_overlap


def spec(request_id: int, max_tokens: int = 3) -> RequestSpec:
    return RequestSpec(request_id, (5, 6, 7), max_tokens)


def decode(*ids: int, finished: tuple[int, ...] = (), tokens: tuple[int, ...] = ()) -> StepRecord:
    return StepRecord("decode", ids, finished, tuple(map(Token, tokens or ids)))


def ran(session: ScriptedSession, *times: dict[str, int], max_tokens: int = 3) -> Run:
    """Run one request for each element of ``times``, which has the ``join_step`` and ``abort_step`` of the request."""
    requests = [a_request(3, max_tokens, **each) for each in times]
    return run_workload(session, [spec(i, max_tokens) for i in range(len(times))], requests)


# --- the order of things ---------------------------------------------------------------------------------------


def test_the_order_of_events_before_the_first_step() -> None:
    session = ScriptedSession()
    run = ran(session, {}, {"abort_step": 0}, {})
    assert session.calls == ["add 0", "add 1", "add 2", "abort 1", "observe"]
    assert run.steps[0].waiting == (0, 2)
    assert (run.steps[0].step, run.steps[0].kind) == (0, "start")


def test_the_order_of_events_after_a_step() -> None:
    session = ScriptedSession([IDLE, IDLE])
    run = ran(session, {"abort_step": 2}, {"join_step": 1}, {"join_step": 2}, {"join_step": 2, "abort_step": 2})
    assert session.calls == [
        *("add 0", "observe"),
        *("step", "add 1", "observe"),
        *("step", "add 2", "add 3", "abort 0", "abort 3", "observe"),
    ]
    assert [step.waiting for step in run.steps] == [(0,), (0, 1), (1, 2)]


def test_requests_that_join_together_join_in_the_order_they_are_listed() -> None:
    session = ScriptedSession([IDLE])
    ran(session, {"join_step": 1}, {"join_step": 1}, {"join_step": 1})
    assert session.calls[2:5] == ["add 0", "add 1", "add 2"]


def test_rows_are_numbered_by_engine_steps() -> None:
    run = ran(ScriptedSession([IDLE] * 4), {})
    assert [step.step for step in run.steps] == [0, 1, 2, 3, 4]


def test_steps_go_on_idle_while_a_request_is_still_to_come() -> None:
    seen = simulate(a_request(10, 1), a_request(10, 1, join_step=6))
    assert [step.kind for step in seen.run.steps] == [
        *("start", "prefill", "idle", "idle", "idle", "idle", "idle"),
        *("prefill", "idle"),
    ]
    assert seen.run.steps[6].waiting == (1,)
    assert seen.run.unfinished is None


def test_steps_go_on_idle_while_an_abort_is_still_to_come() -> None:
    session = ScriptedSession()
    run = ran(session, {"abort_step": 3})
    assert [step.step for step in run.steps] == [0, 1, 2, 3]
    assert session.calls[-2:] == ["abort 0", "observe"]


def test_a_workload_ends_with_the_step_that_frees_the_last_blocks() -> None:
    last, before = two_that_overlap().run.steps[-1], two_that_overlap().run.steps[-2]
    assert (before.finished, before.reserved, before.tkv) == ((0,), 2, 68)
    assert (last.kind, last.reserved, last.used, last.tkv) == ("idle", 0, 0, 0)


# --- what is written down --------------------------------------------------------------------------------------


def test_a_row_holds_what_the_step_did_and_what_can_be_seen_after_it() -> None:
    left = Observation(70, (2,), (1, 0), 5, 4)
    run = ran(ScriptedSession([decode(1, 0, finished=(0,))], left=left), {}, {})
    assert run.steps[1]._asdict() == {
        "step": 1,
        "kind": "decode",
        "tkv": 70,
        "waiting": (2,),
        "running": (1, 0),
        "outputs": (1, 0),
        "finished": (0,),
        "reserved": 5,
        "used": 4,
        "block_tables": (),
        "paused": None,
        "hits": None,
        "scheduled": None,
        "preempted": None,
        "writes": None,
    }


def test_blocks_that_an_engine_does_not_have_are_written_down_as_none() -> None:
    run = ran(ScriptedSession([IDLE], left=Observation(0, (), ())), {})
    assert {(step.reserved, step.used) for step in run.steps} == {(None, None)}


def test_tokens_are_collected_by_request_in_the_order_they_came() -> None:
    script = [decode(0, tokens=(10,)), decode(1, 0, tokens=(20, 11)), IDLE, decode(1, tokens=(21,))]
    run = ran(ScriptedSession(script), {}, {}, {})
    assert [[token.token_id for token in tokens] for tokens in run.tokens] == [[10, 11], [20, 21], []]


def test_logprobs_are_kept_with_their_tokens() -> None:
    script = [StepRecord("prefill", (0,), (), (Token(10, -0.5),)), StepRecord("decode", (0,), (0,), (Token(11),))]
    assert ran(ScriptedSession(script), {}).tokens == ((Token(10, -0.5), Token(11, None)),)


# --- engines that go wrong -------------------------------------------------------------------------------------


def test_an_engine_that_never_comes_to_an_end_is_broken_off() -> None:
    run = ran(ScriptedSession(repeat(IDLE)), {}, {"join_step": 4}, max_tokens=3)
    assert run.unfinished is not None
    assert run.unfinished.startswith("the requests did not finish in ")
    most = int(run.unfinished.split()[6])
    assert run.steps[-1].step == most
    # A prefill and two decodes each, one after the other from step 4 on, and the step that frees blocks: 11 steps.
    assert 11 < most < 100


def test_a_correct_engine_that_is_slow_to_admit_is_not_broken_off() -> None:
    seen = simulate(*[a_request(500, 12)] * 12, max_num_seqs=1)
    assert seen.run.unfinished is None
    assert sum(len(step.finished) for step in seen.run.steps) == 12


def test_an_engine_that_fails_leaves_its_steps_up_to_there_and_the_reason() -> None:
    run = ran(ScriptedSession([decode(0), decode(0), RuntimeError("no room"), decode(0)]), {})
    assert run.unfinished is not None
    assert run.unfinished.startswith("the engine failed in step 3: RuntimeError: no room (tests/helpers/harness.py:")
    assert run.traceback[0] == "Traceback (most recent call last):"
    assert run.traceback[-1] == "RuntimeError: no room"
    assert [step.step for step in run.steps] == [0, 1, 2]
    assert len(run.tokens[0]) == 2


def test_an_engine_that_fails_at_once_leaves_the_start() -> None:
    run = ran(ScriptedSession([MemoryError()]), {})
    assert run.unfinished is not None
    assert run.unfinished.startswith("the engine failed in step 1: MemoryError (tests/helpers/harness.py:")
    assert [step.kind for step in run.steps] == ["start"]


def test_the_scheduler_says_when_a_request_can_never_run() -> None:
    run = simulate(a_request(400, 5), available_blocks=2).run
    assert run.unfinished is not None
    assert run.unfinished.startswith("the engine failed in step 1: OutOfBlocksError: ")


@pytest.mark.parametrize(
    ("scheduler", "limits", "options", "advice"),
    [
        ("continuous", SchedulingLimits(512, 4, 1, 2048), None, "raise available_blocks, or"),
        ("chunked", SchedulingLimits(512, 4, 8, 66), ChunkingSetup(), "raise max_batch_tkv_limit, or"),
        ("token_budget", SchedulingLimits(64, 4, 8), TokenBudgetSetup(32), "raise max_model_len, or"),
    ],
)
def test_a_request_that_can_never_end_comes_with_what_to_raise(
    scheduler: Scheduler, limits: SchedulingLimits, options: SchedulerOptions | None, advice: str
) -> None:
    long = RequestSpec(0, (5,) * 64, 70)
    case: Any = SimpleNamespace(requests=[a_request(64, 70)])
    configuration = Configuration("tiny-granite", "eager")
    workload = Workload(case, configuration, scheduler_named(scheduler), options, limits, (long,), None)
    with pytest.raises(CaseError, match=f"request 0 .* — {advice} make the request smaller"):
        workload.run(ScriptedSession([RuntimeError("stuck")]))


@pytest.mark.parametrize("join_step", [0, 1])
@pytest.mark.parametrize("structure", [None, Structure("regex", "(")])
def test_a_request_that_the_engine_refuses_is_a_mistake_in_the_case(
    join_step: int, structure: Structure | None
) -> None:
    class Refusing(ScriptedSession):
        def add_request(self, request: RequestSpec) -> None:
            super().add_request(request)
            if request.request_id == 1:
                raise ValueError("structured_outputs: no\n  such thing")

    case: Any = SimpleNamespace(requests=[a_request(3, 3), a_request(3, 3, join_step=join_step)])
    specs = (spec(0), replace(spec(1), structured_outputs=structure))
    limits, configuration = SchedulingLimits(512, 4, 8, 2048), Configuration("tiny-granite", "eager")
    workload = Workload(case, configuration, scheduler_named("continuous"), None, limits, specs, None)
    with pytest.raises(CaseError, match=r"^the engine refuses this request: no such thing$") as caught:
        workload.run(Refusing([IDLE, IDLE]))
    assert caught.value.at == ("requests", 1, *(["structured_outputs"] if structure else []))


def test_an_interrupt_is_raised() -> None:
    def interrupted() -> Iterator[StepRecord]:
        yield IDLE
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(ScriptedSession(interrupted()), {})
