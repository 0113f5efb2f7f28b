"""Actions at the front door, one after the other, and what came of each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest

from harness.checks.invariants import check_invariants
from harness.checks.verdict import Verdict
from harness.drivers.base import Completion, RefusedError, RequestSpec, SchedulingLimits, Session, Token
from harness.engine_failure import failure_of, traceback_of
from harness.schema import Action, BehaviourCase, GenerateExpectation, Limits, Request
from harness.workload import Run, Step, as_step

MakeSpec = Callable[[Request, int], RequestSpec]


def check_behaviour(
    session: Session, case: BehaviourCase, make_spec: MakeSpec, limits: SchedulingLimits
) -> list[Verdict]:
    """Carry out the actions of a case in order; a verdict an action, and one on how the engine was left.

    Where the driver shows the steps of an action, the invariants are checked after each, under ``limits``.
    """
    verdicts = []
    position = 0
    for number, action in enumerate(case.actions):
        specs = [make_spec(request, position + i) for i, request in enumerate(action.generate)]
        position += len(specs)
        verdicts.append(_check_generate(session, number, action, specs))
        verdicts.extend(_check_steps_of(session, number, action, specs, limits))
    verdicts.append(_check_idle(session))
    verdicts.extend(_check_limits(limits, case.expect.limits))
    return verdicts


def _check_generate(session: Session, number: int, action: Action, specs: Sequence[RequestSpec]) -> Verdict:
    try:
        completions = session.generate(specs)
    except RefusedError as refusal:
        return _judge_refusal(number, str(refusal), action.expect)
    except Exception as error:
        headline = f"action {number} (generate): the engine failed: {failure_of(error)}"
        return Verdict(False, headline, traceback_of(error), data={"action": number, "broken": True})
    if action.expect.error:
        counts = [len(completion.token_ids) for completion in completions]
        return Verdict(False, f"action {number} (generate): expected an error, but {counts} tokens came back")
    return _judge_completions(number, completions, action.expect)


def _check_steps_of(
    session: Session, number: int, action: Action, specs: Sequence[RequestSpec], limits: SchedulingLimits
) -> list[Verdict]:
    watched = session.steps_of_generate()
    if not watched or action.expect.error:
        return []
    positions = tuple(range(len(specs)))
    steps = [Step(0, "start", 0, positions, (), (), (), 0, 0)]
    tokens: list[list[Token]] = [[] for _ in specs]
    for record, seen in watched:
        for position, token in zip(record.request_outputs, record.tokens, strict=True):
            tokens[position].append(token)
        steps.append(as_step(len(steps), record, seen))
    run = Run(tuple(steps), tuple(map(tuple, tokens)))
    renumbered = [replace(spec, request_id=position) for position, spec in zip(positions, specs, strict=True)]
    verdict = check_invariants(run, renumbered, action.generate, limits)
    return [replace(verdict, headline=f"action {number} (generate): {verdict.headline}")]


def _judge_refusal(number: int, message: str, expect: GenerateExpectation) -> Verdict:
    data = {"action": number, "error": message}
    if expect.error is None:
        return Verdict(False, f"action {number} (generate): refused: {message}", data=data)
    missing = [text for text in expect.error.message_contains if text not in message]
    if missing:
        details = (f"message:  {message}", *(f"expected: … {text} …" for text in missing))
        return Verdict(False, f"action {number} (generate): refused with another message", details, data=data)
    return Verdict(True, f"action {number} (generate): refused as expected", data=data)


def _judge_completions(number: int, completions: Sequence[Completion], expect: GenerateExpectation) -> Verdict:
    counts = tuple(len(completion.token_ids) for completion in completions)
    reasons = tuple(completion.finish_reason for completion in completions)
    texts = tuple(completion.text for completion in completions)
    data = {"action": number, "token_counts": list(counts), "finish_reasons": list(reasons), "texts": list(texts)}
    wrong = []
    if expect.token_counts is not None and counts != expect.token_counts:
        wrong.append(f"token counts {list(counts)}, expected {list(expect.token_counts)}")
    if expect.finish_reasons is not None and reasons != expect.finish_reasons:
        wrong.append(f"finish reasons {list(reasons)}, expected {list(expect.finish_reasons)}")
    for position, (text, wanted) in enumerate(zip_longest(texts, expect.texts or texts)):
        if text != wanted:
            wrong.append(f"request {position} got the text {text!r}, expected {wanted!r}")
    if wrong:
        return Verdict(False, f"action {number} (generate): {'; '.join(wrong)}", data=data)
    return Verdict(True, f"action {number} (generate): {list(counts)} tokens as expected", data=data)


def _check_idle(session: Session) -> Verdict:
    seen = session.observe()
    held = {
        "waiting": seen.waiting,
        "running": seen.running,
        "reserved blocks": seen.n_reserved_blocks,
        "used blocks": seen.n_used_blocks,
    }
    left = [f"{name} {value}" for name, value in held.items() if value]
    if left:
        return Verdict(False, f"the engine is not idle at the end: {', '.join(left)}")
    return Verdict(True, "the engine is idle at the end")


def _check_limits(limits: SchedulingLimits, expected: Limits) -> list[Verdict]:
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
