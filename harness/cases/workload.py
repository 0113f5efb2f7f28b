"""Prepare the requests of a scheduler-step or output case for an engine, run them, and check the run."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.cases.test import CaseError, Test, Verdicts
from harness.checks.happens import check_happens
from harness.checks.outputs import Comparison, check_outputs, prepare_outputs
from harness.checks.samples import check_samples
from harness.checks.steps import steps_as_data
from harness.drivers.base import TOKENS, Session
from harness.runs.runner import RequestRefusedError, run_workload, without_plain_decodes
from harness.schedulers.spec import SchedulerSpec
from harness.suites.expand import Configuration
from harness.suites.prompts import model_of_run, nameless_spec, request_spec, simulated_spec, vocabulary_of
from harness.suites.schema import OutputCase, Request, StepsCase
from harness.timeline import Size, tables_of
from harness.types import RequestSpec, Run, SchedulerOptions, SchedulingLimits, Verdict
from harness.utils import spent


@dataclass(frozen=True)
class Workload:
    """The requests of a case, prepared for an engine with the effective ``limits``.

    ``requests`` are the requests as the suite file has them, and ``specs`` the same requests in the form that drivers
    take. ``options`` are those of the scheduler. ``comparison`` has the reference outputs; it is None if the outputs
    are not compared.
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
        """Run all requests on a session whose limits are already set.

        Raises CaseError if the engine refuses a request, or if a request can never be scheduled with these limits, so
        that the engine can't finish it.
        """
        try:
            with spent.timed("stepping"):
                run = run_workload(session, self.specs, self.requests)
        except RequestRefusedError as error:
            number = error.request_id
            structure = () if self.specs[number].structured_outputs is None else ("structured_outputs",)
            refusal = " ".join(str(error).split()).removeprefix("structured_outputs: ")
            what = f"the engine refuses this request: {refusal}"
            raise CaseError(what, "requests", number, *structure) from error
        spent.add("steps", len(run.steps) - 1)
        if run.unfinished is not None:
            reason = self.scheduler.impossible(self.limits, self.options, self.specs, self.requests, run)
            if reason:
                raise CaseError(f"{reason} — raise {reason.limit}, or make the request smaller")
        return run

    def check(self, run: Run, session: Session) -> list[Verdict]:
        """Check the scheduler's invariants, the events that the case requires or forbids, and the outputs.

        Some checks of outputs run the requests again on ``session``, one at a time.
        """
        invariants = self.scheduler.check_invariants(run, self.specs, self.requests, self.limits, self.options)
        happened = check_happens(self.scheduler, self.case, run, self.specs, self.limits, self.options)
        outputs = check_outputs(self.comparison, self.specs, self.case, run, self.limits.max_model_len)
        if isinstance(self.case, OutputCase):
            outputs += check_samples(self.configuration, self.case, self.specs, run, session, self.limits)
        return [invariants, *([] if happened is None else [happened]), *outputs]

    def explain(self, run: Run, step: int) -> str | None:
        """Return a phrase that says what the scheduler's rules require at step ``step``, with the numbers of this case.

        Return None if the rules can't be applied to the run, for example if the driver does not report all limits.
        """
        return self.scheduler.explain(self.limits, self.options, self.specs, self.requests, run, step)

    @property
    def sizes(self) -> list[Size]:
        """Return a ``Size`` for each request: its prompt length, its ``max_tokens``, and the step at which it joins."""
        pairs = zip(self.specs, self.requests, strict=True)
        return [Size(len(spec.prompt_token_ids), spec.max_tokens, request.join_step) for spec, request in pairs]

    def with_picture(self, verdicts: Sequence[Verdict], run: Run) -> Verdicts:
        """Return the verdicts, after adding the steps, the request sizes and the step durations to the first verdict.

        Time-lines (``harness/timeline/sources.py``) and latencies (``harness/latency/records.py``) are made from this
        data. The durations of steps are left out if the outputs are not compared with reference outputs.
        """
        first, *others = verdicts
        rows = without_plain_decodes(run.steps)
        steps = first.data.get("steps") or steps_as_data(rows)
        more: dict[str, Any] = {"steps": steps, "sizes": list(map(list, self.sizes))}
        if self.comparison is not None:
            more["step_seconds"] = [round(seconds, 6) for seconds in run.step_seconds]
        if self.options is not None:
            more |= {"options": asdict(self.options), "tables": tables_of(rows)}
        return (replace(first, data={**first.data, **more}), *others)


def prepare(test: Test, case: StepsCase | OutputCase, limits: SchedulingLimits) -> Workload:
    """Prepare the requests of a case for an engine with these effective limits, and look up their reference outputs."""
    specs, comparison = tuple(specs_of(test, case)), None
    if TOKENS in test.capabilities:
        specs, comparison = prepare_outputs(
            test.expanded, case, specs, test.capabilities, test.oracle, test.suite_path, test.policy
        )
    configuration, options = test.expanded.configuration, test.expanded.options
    return Workload(case, configuration, test.scheduler, options, limits, specs, comparison)


def specs_of(test: Test, case: StepsCase | OutputCase) -> list[RequestSpec]:
    """Convert the requests of a case to the form that drivers take.

    Raises CaseError if the model's tokenizer can't produce a prompt, and CheckpointError if the model is not available.
    """
    make_spec = _spec_maker(test, case)
    try:
        return [make_spec(request, position) for position, request in enumerate(case.requests)]
    except ValueError as error:
        raise CaseError(str(error)) from error


def _spec_maker(test: Test, case: StepsCase | OutputCase) -> Callable[[Request, int], RequestSpec]:
    """Return a function that converts (request of the case, position of the request) to the form that drivers take.

    If the driver runs no model, the converted request has the tokens that the driver pretends to generate. If the
    driver runs no model and the scheduler does not depend on tokens, the prompt of the converted request has the right
    length, but all its token ids are 0.
    """
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
