"""Run one test: the case in its configuration on a warm engine, then every check the case asks for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.cases.behaviour.judging import Invariants, Watched, judge_behaviour
from harness.cases.behaviour.needs import needs_of
from harness.cases.blessing import Blessing
from harness.checks.happens import check_happens
from harness.checks.outputs import OutputPlan, judge_outputs, plan_outputs, policy_asked_for
from harness.checks.steps import check_steps, step_table_lines, steps_as_data
from harness.drivers.base import BLOCK_ACCOUNTING, GOLDEN_TOKENS, LOGPROBS, STEP_TRACE, TOKENS, Session
from harness.drivers.client import Client
from harness.golden.tables import GoldenError, golden_path, read_golden
from harness.references import Oracle, ReferenceFileError
from harness.runs.runner import run_workload, turns
from harness.runs.step_table import as_row, columns_of
from harness.schedulers import scheduler_named
from harness.schedulers.spec import SchedulerSpec
from harness.suites.expand import Expanded
from harness.suites.prompts import model_of_run, nameless_spec, request_spec, simulated_spec, vocabulary_of
from harness.suites.schema import BehaviourCase, OutputCase, Policy, Request, StepsCase
from harness.timeline import tables_of
from harness.types import RequestSpec, Run, SchedulingLimits, StepRow, Verdict, failures
from harness.utils import spent


class CaseError(ValueError):
    """A case that cannot be run as it is written; the message is for the person who wrote it."""


@dataclass(frozen=True)
class Test:
    """Everything that says what is to be run and judged.

    With a ``blessing``, golden tables and reference outputs are written. ``policy`` is how outputs are compared where
    neither the case nor its suite says it.
    """

    __test__ = False

    suite_path: Path
    suite_name: str
    expanded: Expanded
    capabilities: frozenset[str]
    bless_command: str
    blessing: Blessing | None = None
    oracle: Oracle = field(default_factory=Oracle)
    policy: Policy | None = None


Verdicts = tuple[Verdict, ...]


def judge_at(client: Client, test: Test, watched: Watched | None = None) -> Verdicts:
    """A behaviour case at an engine that is held to the case's limits; ``watched``: one whose steps can be seen.

    Raises CaseError, CheckpointError, ReferenceMissingError and ReferenceFileError.
    """
    case, configuration = test.expanded.case, test.expanded.configuration
    assert isinstance(case, BehaviourCase)
    model, backend = configuration.model, configuration.backend
    try:
        with spent.timed("behaviour"):
            return tuple(judge_behaviour(case, model, backend, client, test.oracle, test.suite_path, watched))
    except ReferenceFileError:
        raise
    except ValueError as error:
        raise CaseError(str(error)) from error


def judge(test: Test, session: Session) -> Verdicts:
    """Tighten the engine to the case's limits, run it, check it; the verdicts in order.

    Raises CaseError where limits or prompts are impossible for this engine or model, CheckpointError, GoldenError,
    ReferenceMissingError and ReferenceFileError.
    """
    expanded, case = test.expanded, test.expanded.case
    try:
        effective = session.reset(SchedulingLimits(**expanded.limits.model_dump()))
    except ValueError as error:
        raise CaseError(str(error)) from error
    if isinstance(case, BehaviourCase):
        return judge_at(session.client(case.server), test, Watched(session, effective, _invariants_of(expanded)))
    assert isinstance(case, StepsCase | OutputCase)
    specs = _specs(test, case)
    plan = _plan(test, case, specs)
    if test.blessing is not None and plan.judging is not None:
        test.blessing.accept_references(plan.judging)
    with spent.timed("stepping"):
        run = run_workload(session, plan.specs, case.requests)
    spent.add("steps", len(run.steps) - 1)
    scheduler = scheduler_of(expanded)
    if run.unfinished is not None:
        if reason := scheduler.impossible(effective, expanded.options, plan.specs, case.requests, run):
            limit = "max_batch_tkv_limit" if "max_batch_tkv_limit" in reason else "available_blocks"
            raise CaseError(f"{reason} — raise {limit}, or let it ask for less")
        return _with_picture((_broken_off(test, run),), plan.specs, expanded, run)
    others = [scheduler.check_invariants(run, plan.specs, case.requests, effective, expanded.options)]
    happened = check_happens(scheduler, case, run, plan.specs, effective, expanded.options)
    others += [] if happened is None else [happened]
    others += judge_outputs(plan, case, run, session, effective.max_model_len)
    if isinstance(case, StepsCase):
        steps = _judge_steps(test, case, run, others)
        others.insert(0, _explained(test, steps, effective, plan.specs, case, run))
    return _with_picture(others, plan.specs, expanded, run)


def scheduler_of(expanded: Expanded) -> SchedulerSpec:
    """The scheduler of a test, looked up by its name."""
    return scheduler_named(expanded.configuration.scheduler)


def _invariants_of(expanded: Expanded) -> Invariants:
    check = scheduler_of(expanded).check_invariants
    return lambda run, specs, timings, limits: check(run, specs, timings, limits, expanded.options)


def _with_picture(verdicts: Sequence[Verdict], specs: Sequence[RequestSpec], expanded: Expanded, run: Run) -> Verdicts:
    """The first verdict also says what a time-line of the run needs (``harness/timeline/sources.py``)."""
    first, *others = verdicts
    assert isinstance(expanded.case, StepsCase | OutputCase)
    pairs = zip(specs, expanded.case.requests, strict=True)
    sizes = [[len(spec.prompt_token_ids), spec.max_tokens, request.join_step] for spec, request in pairs]
    told = turns(run.steps)
    more: dict[str, Any] = {"steps": first.data.get("steps") or steps_as_data(told), "sizes": sizes}
    if expanded.options is not None:
        more |= {"options": asdict(expanded.options), "tables": tables_of(told)}
    return (replace(first, data={**first.data, **more}), *others)


def _spec_maker(test: Test) -> Callable[[Request, int], RequestSpec]:
    """What makes a request of the case a request for the driver."""
    expanded = test.expanded
    if TOKENS not in test.capabilities and scheduler_of(expanded).reads_tokens:
        words = vocabulary_of(model_of_run(expanded.configuration.model))
        return lambda request, position: simulated_spec(request, expanded.case.id, position, words)
    if TOKENS not in test.capabilities:
        texts = any(request.prompt.length is None for request in getattr(expanded.case, "requests", ()))
        vocabulary = vocabulary_of(model_of_run(expanded.configuration.model)) if texts else None
        return lambda request, position: nameless_spec(request, position, vocabulary)
    vocabulary = vocabulary_of(model_of_run(expanded.configuration.model))
    return lambda request, position: request_spec(request, expanded.case.id, position, vocabulary)


def _specs(test: Test, case: StepsCase | OutputCase) -> list[RequestSpec]:
    make_spec = _spec_maker(test)
    try:
        return [make_spec(request, position) for position, request in enumerate(case.requests)]
    except ValueError as error:
        raise CaseError(str(error)) from error


def _plan(test: Test, case: StepsCase | OutputCase, specs: Sequence[RequestSpec]) -> OutputPlan:
    if TOKENS not in test.capabilities:
        return OutputPlan(tuple(specs))
    return plan_outputs(test.expanded, case, specs, test.capabilities, test.oracle, test.suite_path, test.policy)


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
        last = step_table_lines(run.steps, {}, run.steps[-1].step, columns_of([as_row(run.steps[0])])[1:])
        return Verdict(False, run.unfinished, (*last, *end), data={"broken": True})
    verdict = check_steps(run, steps, blocks=BLOCK_ACCOUNTING in test.capabilities)
    then = () if verdict.headline == run.unfinished else ("", f"and then {run.unfinished}")
    return replace(verdict, details=(*verdict.details, *then, *end), data={**verdict.data, "broken": True})


def _expected_steps(test: Test, case: StepsCase) -> Sequence[StepRow]:
    """The rows of a case, from the suite or from its golden file. Raises GoldenError."""
    if case.expect.steps != "golden":
        return case.expect.steps
    return read_golden(golden_path(test.suite_path, case.id), test.bless_command, (test.suite_name, case.id))


def missing_capability(
    expanded: Expanded, capabilities: frozenset[str], policy_of_the_run: Policy | None = None
) -> str | None:
    """What a test needs that a driver with these capabilities does not have; None where it has all."""
    return next((need for need in _needs(expanded, capabilities, policy_of_the_run) if need not in capabilities), None)


def _needs(expanded: Expanded, capabilities: frozenset[str], policy_of_the_run: Policy | None) -> Iterator[str]:
    case = expanded.case
    if isinstance(case, BehaviourCase):
        yield from needs_of(case, expanded.configuration.entry_point)
        return
    assert isinstance(case, StepsCase | OutputCase)
    yield STEP_TRACE
    if TOKENS not in capabilities and isinstance(case, StepsCase) and all(r.can_be_simulated for r in case.requests):
        return  # its schedule is judged, and nothing else
    yield TOKENS
    policy = policy_asked_for(expanded, policy_of_the_run)
    if case.expect.output == "reference" and policy is not None and policy.name == "golden":
        yield from (GOLDEN_TOKENS, LOGPROBS)
    if any(request.logprobs is not None for request in case.requests):
        yield LOGPROBS


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
    if first is None:
        return verdict
    scheduler, options = scheduler_of(test.expanded), test.expanded.options
    explanation = scheduler.explain(limits, options, specs, case.requests, run, first)
    return replace(verdict, details=(*verdict.details, f"by the rules, {explanation}")) if explanation else verdict


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
