"""A behaviour case at a door: its requests as the door takes them, and what the reference says of them."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from harness.behaviour.perform import perform
from harness.checks.invariants import check_invariants
from harness.checks.verdict import Verdict
from harness.drivers.base import RequestSpec, SchedulingLimits, Session, Token
from harness.drivers.door import Ask, Door
from harness.expectations import reference_path
from harness.oracle import Oracle
from harness.oracle.stopping import ended_text, wanted_for
from harness.oracle.values import widened
from harness.prompts import model_of_run, request_spec, vocabulary_of
from harness.schema import Action, BehaviourCase, Case, Limits, OutputCase, Request, StepsCase
from harness.workload import Run, Step, as_step


def judge_behaviour(
    case: BehaviourCase,
    model: str,
    door: Door,
    oracle: Oracle,
    suite_path: Path,
    session: Session | None = None,
    limits: SchedulingLimits | None = None,
) -> list[Verdict]:
    """Carry out the case and judge it. With a ``session``, whose ``limits`` are these, the steps of every ``generate``
    are held to the invariants where the driver shows them.

    Raises ValueError for a prompt the model has no tokens for, ReferenceMissingError, ReferenceFileError.
    """
    checkpoint = model_of_run(model)
    vocabulary = vocabulary_of(checkpoint)
    numbers = count()

    def make_ask(request: Request) -> Ask:
        position = next(numbers)
        return Ask(f"{case.id}-{position}", request_spec(request, case.id, position, vocabulary))

    def right_texts(asks: Sequence[Ask], requests: Sequence[Request]) -> list[str]:
        specs = [ask.spec for ask, request in zip(asks, requests, strict=True) for _ in range(getattr(request, "n", 1))]
        wanted = widened([wanted_for(spec, vocabulary) for spec in specs])
        found = oracle.references(checkpoint, wanted, reference_path(suite_path, case.id, checkpoint.label))
        return [ended_text(reference, spec, vocabulary) for reference, spec in zip(found, specs, strict=True)]

    def after_generate(label: str, action: Action, asks: Sequence[Ask]) -> list[Verdict]:
        if session is None or limits is None or action.generate is None:
            return []
        specs = [replace(ask.spec, request_id=place) for place, ask in enumerate(asks)]
        return _invariants(session, label, specs, action.generate, limits)

    verdicts = asyncio.run(perform(case, door, make_ask, right_texts, after_generate))
    return [*verdicts, *(check_limits(limits, case.expect.limits) if limits is not None else [])]


def check_limits(limits: SchedulingLimits, expected: Limits) -> list[Verdict]:
    """The limits that the engine says it holds itself to; what it cannot say is not compared."""
    wanted = expected.model_dump(exclude_none=True)
    if not wanted:
        return []
    said = {name: getattr(limits, name) for name in wanted}
    wrong = [
        f"{name} {said[name]}, expected {wanted[name]}" for name in wanted if said[name] not in (None, wanted[name])
    ]
    if wrong:
        return [Verdict(False, f"the engine is held to other limits: {', '.join(wrong)}", rule=_LIMITS)]
    return [Verdict(True, f"the engine is held to {', '.join(f'{name} {value}' for name, value in said.items())}")]


_LIMITS = 'docs/scheduling-rules.md "Limits": what a limit is where none is given'


def requests_with_reference(case: Case) -> Iterator[tuple[int, Request]]:
    """The requests of a case that are compared with the reference, each with its position among all of the case."""
    if isinstance(case, StepsCase | OutputCase):
        yield from enumerate(case.requests if case.expect.output == "reference" else ())
        return
    assert isinstance(case, BehaviourCase)
    position = 0
    for action in case.actions:
        for call in action.calls:
            if action.expect is not None and action.expect.text == "reference":
                yield position, call
            position += action.flood.clients if action.flood is not None else 1


def _invariants(
    session: Session, label: str, specs: Sequence[RequestSpec], requests: Sequence[Request], limits: SchedulingLimits
) -> list[Verdict]:
    """The invariants after every step of the last ``generate``, where they can be seen."""
    watched = session.steps_of_generate()
    if not watched:
        return []
    positions = tuple(range(len(requests)))
    steps = [Step(0, "start", 0, positions, (), (), (), 0, 0)]
    tokens: list[list[Token]] = [[] for _ in requests]
    for record, seen in watched:
        for position, token in zip(record.request_outputs, record.tokens, strict=True):
            tokens[position].append(token)
        steps.append(as_step(len(steps), record, seen))
    run = Run(tuple(steps), tuple(map(tuple, tokens)))
    verdict = check_invariants(run, specs, requests, limits)
    return [replace(verdict, headline=f"{label}: {verdict.headline}")]
