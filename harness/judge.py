"""Run one test: the case in its configuration on a warm engine, then every check the case asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from checkpoints import Checkpoint, resolve
from harness.blessing import Blessing
from harness.checks.behaviour import check_behaviour
from harness.checks.invariants import check_invariants
from harness.checks.output import Tolerance, check_output
from harness.checks.steps import check_steps, step_table_lines
from harness.checks.verdict import Verdict, failures
from harness.drivers.base import (
    BLOCK_ACCOUNTING,
    FRONT_DOOR,
    STEP_TRACE,
    TOKENS,
    RequestSpec,
    SchedulingLimits,
    Session,
)
from harness.expand import Expanded
from harness.expectations import GoldenError, golden_path, read_golden
from harness.explain import by_the_rules
from harness.prompts import Vocabulary, nameless_spec, request_spec, vocabulary_of
from harness.schema import BehaviourCase, Case, OutputCase, OutputExpectation, Request, StepRow, StepsCase
from harness.step_table import COLUMNS, as_row
from harness.workload import Run, run_workload


class CaseError(ValueError):
    """A case that cannot be run as it is written; the message is for the person who wrote it."""


@dataclass(frozen=True)
class Test:
    """Everything that says what is to be run and judged.

    With a ``blessing``, golden tables are written instead of read.
    """

    __test__ = False

    suite_path: Path
    suite_name: str
    expanded: Expanded
    capabilities: frozenset[str]
    bless_command: str
    blessing: Blessing | None = None


Verdicts = tuple[Verdict, ...]


def judge(test: Test, session: Session) -> Verdicts:
    """Tighten the engine to the case's limits, run it, check it; the verdicts in order.

    Raises CaseError where limits or prompts are impossible for this engine or model, CheckpointError, GoldenError.
    """
    expanded, case = test.expanded, test.expanded.case
    try:
        held_to = session.reset(SchedulingLimits(**expanded.limits.model_dump()))
    except ValueError as error:
        raise CaseError(str(error)) from error
    if TOKENS not in test.capabilities:
        return _judge_schedule(test, session, held_to)
    checkpoint = resolve(expanded.configuration.model)
    vocabulary = vocabulary_of(checkpoint)

    def make_spec(request: Request, position: int) -> RequestSpec:
        try:
            return request_spec(request, case.id, position, vocabulary)
        except ValueError as error:
            raise CaseError(str(error)) from error

    if isinstance(case, BehaviourCase):
        return tuple(check_behaviour(session, case, make_spec, held_to))
    assert isinstance(case, StepsCase | OutputCase)
    run, specs = _run(session, case.requests, make_spec)
    if run.unfinished is not None:
        return (_broken_off(test, run),)
    others = [check_invariants(run, specs, case.requests, held_to)]
    if case.expect.output == "reference":
        others += _judge_outputs(case, specs, run, checkpoint, vocabulary)
    others += _judge_simulated_tokens(case, run)
    if isinstance(case, OutputCase):
        return tuple(others)
    steps = _judge_steps(test, case, run, others)
    return (_explained(test, steps, held_to, specs, case, run), *others)


def _broken_off(test: Test, run: Run) -> Verdict:
    """An engine that failed, or never came to an end: the first wrong step before that, if its table is known."""
    assert run.unfinished is not None
    case = test.expanded.case
    end = ("", *run.traceback) if run.traceback else ()
    try:
        steps = _expected_steps(test, case) if isinstance(case, StepsCase) else None
    except GoldenError:
        steps = None  # its absence is not what is wrong here
    if steps is None:
        last = step_table_lines(run.steps, {}, run.steps[-1].step, COLUMNS[1:])
        return Verdict(False, run.unfinished, (*last, *end), data={"broken": True})
    verdict = check_steps(run, steps, blocks=BLOCK_ACCOUNTING in test.capabilities)
    then = () if verdict.headline == run.unfinished else ("", f"and then {run.unfinished}")
    return replace(verdict, details=(*verdict.details, *then, *end), data={**verdict.data, "broken": True})


def _expected_steps(test: Test, case: StepsCase) -> Sequence[StepRow]:
    """The rows of a case, from the suite or from its golden file. Raises GoldenError."""
    if case.expect.steps != "golden":
        return case.expect.steps
    return read_golden(golden_path(test.suite_path, case.id), test.bless_command)


def missing_capability(case: Case, capabilities: frozenset[str]) -> str | None:
    """What a case needs that a driver with these capabilities does not have; None where it has all."""
    if isinstance(case, BehaviourCase):
        return FRONT_DOOR if FRONT_DOOR not in capabilities else None
    if STEP_TRACE not in capabilities:
        return STEP_TRACE
    if TOKENS in capabilities:
        return None
    if isinstance(case, StepsCase) and all(request.can_be_simulated for request in case.requests):
        return None
    return TOKENS


def _judge_schedule(test: Test, session: Session, held_to: SchedulingLimits) -> Verdicts:
    """A scheduler-step case on a driver without tokens: only the lengths of the prompts matter."""
    case = test.expanded.case
    assert isinstance(case, StepsCase)
    texts = any(request.prompt.text is not None for request in case.requests)
    vocabulary = vocabulary_of(resolve(test.expanded.configuration.model)) if texts else None
    run, specs = _run(session, case.requests, lambda request, position: nameless_spec(request, position, vocabulary))
    if run.unfinished is not None:
        return (_broken_off(test, run),)
    others = [check_invariants(run, specs, case.requests, held_to)]
    steps = _judge_steps(test, case, run, others)
    return (_explained(test, steps, held_to, specs, case, run), *others)


def _run(
    session: Session, requests: Sequence[Request], make_spec: Callable[[Request, int], RequestSpec]
) -> tuple[Run, list[RequestSpec]]:
    specs = [make_spec(request, position) for position, request in enumerate(requests)]
    return run_workload(session, specs, requests), specs


def _judge_steps(test: Test, case: StepsCase, run: Run, others: Sequence[Verdict]) -> Verdict:
    blocks = BLOCK_ACCOUNTING in test.capabilities
    path = golden_path(test.suite_path, case.id)
    if case.expect.steps != "golden" or test.blessing is None or path in test.blessing.done:
        return check_steps(run, _expected_steps(test, case), blocks=blocks)
    if not blocks:
        return Verdict(False, "not blessed: this driver cannot see blocks, so the table would have none")
    if failures(others):
        return Verdict(False, "not blessed: what the engine did is wrong for another reason, see below")
    test.blessing.accept(path, test.suite_name, case.id, [as_row(step) for step in run.steps])
    return Verdict(True, f"blessed {path.name}")


def _explained(
    test: Test, verdict: Verdict, limits: SchedulingLimits, specs: Sequence[RequestSpec], case: StepsCase, run: Run
) -> Verdict:
    """A wrong step with what the rules say of it, in this case's numbers."""
    first = verdict.data.get("first")
    if first is None or test.expanded.configuration.scheduler != "continuous":
        return verdict
    said = by_the_rules(limits, specs, case.requests, run, first)
    return replace(verdict, details=(*verdict.details, f"by the rules, {said}")) if said else verdict


def _judge_simulated_tokens(case: StepsCase | OutputCase, run: Run) -> list[Verdict]:
    """Tokens that a case gives for simulation must be those of the model that ran."""
    wrong = []
    for position, (request, tokens) in enumerate(zip(case.requests, run.tokens, strict=True)):
        seen = tuple(token.token_id for token in tokens)
        if request.simulated_tokens and request.simulated_tokens[: len(seen)] != seen:
            details = (f"the suite says {list(request.simulated_tokens)}", f"the model said {list(seen)}")
            wrong.append(Verdict(False, f"request {position}: simulated_tokens are not the model's", details))
    return wrong


def _judge_outputs(
    case: StepsCase | OutputCase,
    specs: Sequence[RequestSpec],
    run: Run,
    checkpoint: Checkpoint,
    vocabulary: Vocabulary,
) -> list[Verdict]:
    expect = case.expect
    tolerance = Tolerance(expect.rel_tol, expect.abs_tol) if isinstance(expect, OutputExpectation) else Tolerance()
    return [
        check_output(spec, tokens, checkpoint, vocabulary, aborted=request.abort_step is not None, tolerance=tolerance)
        for request, spec, tokens in zip(case.requests, specs, run.tokens, strict=True)
    ]


def as_data(verdicts: Sequence[Verdict]) -> list[Mapping[str, Any]]:
    """The verdicts as builtins, for reports."""
    return [
        {
            "passed": v.passed,
            "headline": v.headline,
            "details": list(v.details),
            "rule": v.rule,
            "data": dict(v.data),
        }
        for v in verdicts
    ]
