"""Run the requests of a case on a session, and record the observable state after every step.

Row n of the step table is recorded after n engine steps. Before it is recorded, the requests with ``join_step`` n are
added and those with ``abort_step`` n are aborted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Protocol, overload

from harness.drivers.base import Observation, Session, StepRecord
from harness.runs.engine_failure import failure_of, traceback_of
from harness.suites.schema import decodes_on, format_of_row
from harness.types import RequestSpec, Run, StepRow, Token


class RequestRefusedError(ValueError):
    """The engine refused the request ``request_id`` when it was added. The message is the engine's reason."""

    def __init__(self, request_id: int, reason: str) -> None:
        super().__init__(reason)
        self.request_id = request_id


class Timing(Protocol):
    """When a request is added and aborted: after the engine steps ``join_step`` and ``abort_step``.

    If ``abort_step`` is None, the request is never aborted.
    """

    @property
    def join_step(self) -> int: ...
    @property
    def abort_step(self) -> int | None: ...


def run_workload(session: Session, requests: Sequence[RequestSpec], timings: Sequence[Timing]) -> Run:
    """Run the requests until the engine has no more work. ``timings`` has the join and abort step of each request.

    If the engine raises an error, ``steps`` of the result has the steps before the error. If the engine needs more
    steps than a correct engine can need, the run is stopped. In both cases ``unfinished`` is the reason.

    Raises RequestRefusedError if the engine refuses a request.
    """
    tokens = _Tokens(len(requests))
    events = _events(requests, timings)
    last_event = max(events)
    _apply(session, events[0])
    rows = [as_step(0, StepRecord("start", (), (), ()), session.observe())]
    most = _max_steps(last_event, requests, by_tokens="scheduled" in format_of_row(rows[0]).columns)
    unfinished: str | None = None
    lines: tuple[str, ...] = ()
    seconds = [0.0]
    step = 0
    while step < last_event or session.has_work():
        # An error of the engine under test, or of its driver, is a result of the test. The harness must not crash.
        try:
            step += 1
            if step > most:
                unfinished = f"the requests did not finish in {most} steps, but a correct engine needs fewer"
                break
            began = perf_counter()
            record = session.step()
            seconds.append(perf_counter() - began)
            tokens.take(record)
            if step in events:
                _apply(session, events[step])
            rows.append(as_step(step, record, session.observe()))
        except RequestRefusedError:
            raise
        except Exception as error:
            unfinished, lines = f"the engine failed in step {step}: {failure_of(error)}", traceback_of(error)
            break
    return Run(tuple(rows), tokens, unfinished, lines, tuple(seconds))


def _max_steps(last_event: int, requests: Sequence[RequestSpec], *, by_tokens: bool) -> int:
    """Return an upper bound for the number of steps that a correct engine needs.

    ``last_event`` is the last step at which a request is added or aborted. ``by_tokens`` is True for the token-budget
    scheduler, which may compute as little as one prompt token in a step.
    """
    prompts = sum(len(request.prompt_token_ids) for request in requests) if by_tokens else 0
    return last_event + sum(request.max_tokens + 3 for request in requests) + prompts + 10


class _Tokens(Sequence[tuple[Token, ...]]):
    """The tokens of each request, in the order of the case's requests.

    The tokens are collected in the order of steps, and sorted by request only when they are first read. Simulated runs
    (``--cb-simulate``) never read them.
    """

    def __init__(self, requests: int) -> None:
        self._requests = range(requests)
        self._taken: list[StepRecord] = []

    def take(self, record: StepRecord) -> None:
        """Add the tokens of a step.

        Raises ValueError if the step does not have one token for each request in ``request_outputs``, or if it has a
        token for a request that is not in the case.
        """
        requests, tokens = record.request_outputs, record.tokens
        if len(requests) != len(tokens):
            names = ", ".join(map(str, requests)) or "none"
            raise ValueError(
                f"the driver returned {len(tokens)} tokens, but {len(requests)} request outputs (requests {names}): "
                "a StepRecord must have one token for each request output"
            )
        if requests and not (min(requests) in self._requests and max(requests) in self._requests):
            raise ValueError(
                f"the driver returned tokens for the requests {', '.join(map(str, requests))}, but the requests of "
                f"the case have the numbers 0 to {len(self) - 1}"
            )
        self._taken.append(record)

    @cached_property
    def _by_request(self) -> tuple[tuple[Token, ...], ...]:
        lists: list[list[Token]] = [[] for _ in self._requests]
        for record in self._taken:
            for request, token in zip(record.request_outputs, record.tokens, strict=True):
                lists[request].append(token)
        return tuple(map(tuple, lists))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._by_request == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # Not hashable, like a list.

    def __len__(self) -> int:
        return len(self._requests)

    @overload
    def __getitem__(self, request: int) -> tuple[Token, ...]: ...
    @overload
    def __getitem__(self, request: slice) -> Sequence[tuple[Token, ...]]: ...
    def __getitem__(self, request: int | slice) -> tuple[Token, ...] | Sequence[tuple[Token, ...]]:
        return self._by_request[request]


@dataclass
class _Events:
    """What the harness does between two steps: it adds the requests ``joins``, then aborts the requests ``aborts``.

    ``aborts`` has request ids. A request's id is its position in the case.
    """

    joins: list[RequestSpec] = field(default_factory=list)
    aborts: list[int] = field(default_factory=list)


def _events(requests: Sequence[RequestSpec], timings: Sequence[Timing]) -> dict[int, _Events]:
    events: dict[int, _Events] = {0: _Events()}
    for request, timing in zip(requests, timings, strict=True):
        events.setdefault(timing.join_step, _Events()).joins.append(request)
        if timing.abort_step is not None:
            events.setdefault(timing.abort_step, _Events()).aborts.append(request.request_id)
    return events


def _apply(session: Session, events: _Events) -> None:
    for request in events.joins:
        try:
            session.add_request(request)
        except ValueError as error:
            raise RequestRefusedError(request.request_id, str(error)) from error
    for request_id in events.aborts:
        session.abort(request_id)


def as_step(step: int, record: StepRecord, seen: Observation) -> StepRow:
    """Return a row of the observed step table, from the results of the step (``record``) and the state after it."""
    return StepRow(
        step=step,
        tkv=seen.tkv,
        waiting=seen.waiting,
        running=seen.running,
        outputs=record.request_outputs,
        finished=record.finished_requests,
        reserved=seen.n_reserved_blocks,
        used=seen.n_used_blocks,
        paused=seen.paused,
        hits=seen.hits,
        kind=record.kind,
        block_tables=record.block_tables,
        scheduled=seen.scheduled,
        preempted=seen.preempted,
        writes=record.writes,
    )


def without_plain_decodes(steps: Sequence[StepRow]) -> list[StepRow]:
    """Return the steps without plain decodes (decode steps in which no request joins, ends or takes a block).

    The last step is always kept, to show where the run ends.
    """
    kept = [
        after
        for before, after in zip([None, *steps], steps, strict=False)
        if not (before and decodes_on(before, after))
    ]
    return kept if kept[-1] is steps[-1] else [*kept, steps[-1]]
