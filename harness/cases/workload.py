"""The requests of a steps or output case, prepared for an engine, with functions to run and check them."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.cases.test import CaseError, Test, Verdicts
from harness.checks.happens import check_happens
from harness.checks.outputs import Comparison, check_outputs, prepare_outputs
from harness.checks.samples import check_samples
from harness.checks.steps import steps_as_data
from harness.drivers.base import TOKENS, Session
from harness.runs.runner import run_workload, turns
from harness.schedulers.spec import SchedulerSpec
from harness.suites.expand import Configuration
from harness.suites.prompts import model_of_run, nameless_spec, request_spec, simulated_spec, vocabulary_of
from harness.suites.schema import OutputCase, Request, StepsCase
from harness.timeline import tables_of
from harness.types import RequestSpec, Run, SchedulerOptions, SchedulingLimits, Verdict
from harness.utils import spent


@dataclass(frozen=True)
class Workload:
    """The requests of a case under effective ``limits``.

    ``requests`` are in suite form, ``specs`` in the form that drivers take. ``comparison`` has the references, None if
    outputs are not compared with any.
    """

    case: StepsCase | OutputCase
    configuration: Configuration
    scheduler: SchedulerSpec
    options: SchedulerOptions | None
    limits: SchedulingLimits
    specs: tuple[RequestSpec, ...]
    comparison: Comparison | None

    @property
    def requests(self) -> tuple[Request, ...]:
        return self.case.requests

    def run(self, session: Session) -> Run:
        """Run the workload on a session that was reset to its limits.

        Raises CaseError if it did not finish because no engine can finish it by the rules.
        """
        with spent.timed("stepping"):
            run = run_workload(session, self.specs, self.requests)
        spent.add("steps", len(run.steps) - 1)
        if run.unfinished is not None:
            reason = self.scheduler.impossible(self.limits, self.options, self.specs, self.requests, run)
            if reason:
                limit = "max_batch_tkv_limit" if "max_batch_tkv_limit" in reason else "available_blocks"
                raise CaseError(f"{reason} — raise {limit}, or make the request smaller")
        return run

    def check(self, run: Run, session: Session) -> list[Verdict]:
        """Check the invariants of the scheduler, required events, then outputs. May run requests again, alone."""
        invariants = self.scheduler.check_invariants(run, self.specs, self.requests, self.limits, self.options)
        happened = check_happens(self.scheduler, self.case, run, self.specs, self.limits, self.options)
        outputs = check_outputs(self.comparison, self.specs, self.case, run, self.limits.max_model_len)
        if isinstance(self.case, OutputCase):
            outputs += check_samples(self.configuration, self.case, self.specs, run, session, self.limits)
        return [invariants, *([] if happened is None else [happened]), *outputs]

    def explain(self, run: Run, step: int) -> str | None:
        """Return what a step does by the rules, in this case's numbers; None if that is not known."""
        return self.scheduler.explain(self.limits, self.options, self.specs, self.requests, run, step)

    def with_picture(self, verdicts: Sequence[Verdict], run: Run) -> Verdicts:
        """Add the data for time-line and latencies of the run to the first verdict.

        ``harness/timeline/sources.py`` and ``harness/latency/records.py`` read it. Steps of engines without a model are
        not timed.
        """
        first, *others = verdicts
        pairs = zip(self.specs, self.requests, strict=True)
        sizes = [[len(spec.prompt_token_ids), spec.max_tokens, request.join_step] for spec, request in pairs]
        rows = turns(run.steps)
        more: dict[str, Any] = {"steps": first.data.get("steps") or steps_as_data(rows), "sizes": sizes}
        if self.comparison is not None:
            more["step_seconds"] = [round(seconds, 6) for seconds in run.step_seconds]
        if self.options is not None:
            more |= {"options": asdict(self.options), "tables": tables_of(rows)}
        return (replace(first, data={**first.data, **more}), *others)


def prepare(test: Test, case: StepsCase | OutputCase, limits: SchedulingLimits) -> Workload:
    """Return the workload of a case for an engine with these effective limits."""
    specs, comparison = tuple(specs_of(test, case)), None
    if TOKENS in test.capabilities:
        specs, comparison = prepare_outputs(
            test.expanded, case, specs, test.capabilities, test.oracle, test.suite_path, test.policy
        )
    configuration, options = test.expanded.configuration, test.expanded.options
    return Workload(case, configuration, test.scheduler, options, limits, specs, comparison)


def specs_of(test: Test, case: StepsCase | OutputCase) -> list[RequestSpec]:
    """Return the requests of a case in the form that drivers take. Raises CaseError and CheckpointError."""
    make_spec = _spec_maker(test, case)
    try:
        return [make_spec(request, position) for position, request in enumerate(case.requests)]
    except ValueError as error:
        raise CaseError(str(error)) from error


def _spec_maker(test: Test, case: StepsCase | OutputCase) -> Callable[[Request, int], RequestSpec]:
    """Return the function that converts a request of the case for the driver."""
    model = test.expanded.configuration.model
    if TOKENS not in test.capabilities and test.scheduler.reads_tokens:
        words = vocabulary_of(model_of_run(model))
        return lambda request, position: simulated_spec(request, case.id, position, words)
    if TOKENS not in test.capabilities:
        texts = any(request.prompt.length is None for request in case.requests)
        vocabulary = vocabulary_of(model_of_run(model)) if texts else None
        return lambda request, position: nameless_spec(request, position, vocabulary)
    vocabulary = vocabulary_of(model_of_run(model))
    return lambda request, position: request_spec(request, case.id, position, vocabulary)
