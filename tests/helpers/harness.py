"""Helpers for tests of the harness: runs of the reference engine's scheduler without a model, and a fake session."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from harness.drivers.base import Completion, Observation, RefusedError, StepRecord
from harness.drivers.reference import SimulationDriver
from harness.runs.plain_decodes import as_row
from harness.runs.runner import run_workload
from harness.suites.prompts import nameless_spec
from harness.suites.schema import Prompt, Request, StepsSuite
from harness.types import EngineSetup, RequestSpec, Run, SchedulingLimits, StepRow

SHAPE = EngineSetup("tiny-granite", "eager", 1, 512, 4)
IDLE = StepRecord("idle", (), (), ())


class Simulated(NamedTuple):
    """A run of the reference engine's scheduler without a model, with the arguments that checks of a run need.

    ``limits`` are the effective limits, none of which is None.
    """

    run: Run
    specs: list[RequestSpec]
    requests: tuple[Request, ...]
    limits: SchedulingLimits

    @property
    def rows(self) -> list[StepRow]:
        return [as_row(step) for step in self.run.steps]


def suite(*case_ids: str, limits: dict[str, int] | None = None, max_tests: int = 200, **parameters: Any) -> StepsSuite:
    """Return a scheduler-step suite with a case for each id (``a`` if none is given), all with the same limits."""
    request = {"prompt": {"random_tokens": 9}, "max_tokens": 3}
    return StepsSuite.model_validate(
        {
            "suite": "a-suite",
            "kind": "scheduler_steps",
            "max_tests": max_tests,
            "parameters": parameters,
            "cases": [
                {"id": name, "requests": [request], "limits": limits or {}, "expect": {"steps": "golden"}}
                for name in case_ids or ("a",)
            ],
        }
    )


def a_request(prompt_length: int, max_tokens: int, **more: Any) -> Request:
    """Return a ``Request`` of a suite with a prompt of random tokens. ``more`` are further fields."""
    return Request(prompt=Prompt(random_tokens=prompt_length), max_tokens=max_tokens, **more)


def simulate(*requests: Request, **limits: int) -> Simulated:
    """Run requests on the scheduler of the reference engine without a model, with the given limits.

    The engine is built with ``max_model_len`` 512 and ``max_num_seqs`` 4.
    """
    session = SimulationDriver().open(SHAPE)
    effective = session.reset(SchedulingLimits(**limits))
    specs = [nameless_spec(each, position) for position, each in enumerate(requests)]
    return Simulated(run_workload(session, specs, requests), specs, requests, effective)


def two_that_overlap() -> Simulated:
    """Return a run in which request 1 joins while request 0 decodes. The run has every kind of step.

    step  tkv  waiting  running  outputs  finished  reserved  used
       0    0  0        -        -        -                0     0
       1   64  -        0        0        -                2     1
       2   65  1        0        0        -                2     2
       3   65  -        1 0      1        -                4     4
       4   66  -        1 0      1 0      -                4     4
       5   67  -        0        1 0      1                4     4
       6   68  -        -        0        0                2     2
       7    0  -        -        -        -                0     0
    """
    return simulate(a_request(60, 5), a_request(10, 3, join_step=2))


def doctored(run: Run, number: int, **changes: Any) -> Run:
    """Return a copy of the run in which step ``number`` has other values. ``changes`` has them by field."""
    steps = [step._replace(**changes) if step.step == number else step for step in run.steps]
    return replace(run, steps=tuple(steps))


class ScriptedSession:
    """A fake session, which returns given results and records its method calls in ``calls``.

    Each ``step`` returns the next record of ``script``, or raises it if it is an exception. ``has_work`` is true until
    the end of ``script``. Each ``generate`` returns the next of ``answers``, or raises it if it is a RefusedError.
    ``observe`` returns ``left`` if it is given. Otherwise all requests that were added and not aborted are waiting, in
    the order in which they were added.
    """

    def __init__(
        self,
        script: Iterable[StepRecord | Exception] = (),
        answers: Sequence[list[Completion] | RefusedError] = (),
        left: Observation | None = None,
    ) -> None:
        self.calls: list[str] = []
        self.generated: list[list[RequestSpec]] = []
        self._script = iter(script)
        self._next = next(self._script, None)
        self._answers = list(answers)
        self._left = left
        self._waiting: list[int] = []
        self.watched: list[tuple[StepRecord, Observation]] = []
        self.compilation = None

    def reset(self, limits: SchedulingLimits) -> SchedulingLimits:
        self._waiting.clear()
        return limits

    def add_request(self, request: RequestSpec) -> None:
        self.calls.append(f"add {request.request_id}")
        self._waiting.append(request.request_id)

    def abort(self, request_id: int) -> None:
        self.calls.append(f"abort {request_id}")
        if request_id in self._waiting:
            self._waiting.remove(request_id)

    def step(self) -> StepRecord:
        self.calls.append("step")
        record, self._next = self._next, next(self._script, None)
        if isinstance(record, Exception):
            raise record
        return record or IDLE

    def observe(self) -> Observation:
        self.calls.append("observe")
        return self._left or Observation(0, tuple(self._waiting), ())

    def has_work(self) -> bool:
        return self._next is not None

    def generate(self, requests: Sequence[RequestSpec]) -> list[Completion]:
        self.generated.append(list(requests))
        answer = self._answers.pop(0)
        if isinstance(answer, RefusedError):
            raise answer
        return answer

    def steps_of_generate(self) -> Sequence[tuple[StepRecord, Observation]]:
        return self.watched

    def close(self) -> None:
        self.calls.append("close")
