"""Check the outputs of an output case without a reference.

Depending on the case, a request must get the same tokens as without other requests in the batch, the same tokens as
another request, different tokens from another request, or tokens with the right distribution.
"""

from collections.abc import Sequence

from harness.checks.output import check_alone, check_same, check_unlike
from harness.checks.output.draws import check_distributions
from harness.checks.output.policies import DEFAULT_BOUNDS, precision_of
from harness.drivers.base import Session
from harness.suites.expand import Configuration
from harness.suites.prompts import model_of_run, vocabulary_of
from harness.suites.schema import OutputCase
from harness.types import RequestSpec, Run, SchedulingLimits, Verdict


def check_samples(
    configuration: Configuration,
    case: OutputCase,
    specs: Sequence[RequestSpec],
    run: Run,
    session: Session,
    limits: SchedulingLimits,
) -> list[Verdict]:
    """Check the outputs of a case under ``alone``, ``distribution``, ``same`` and ``unlike`` of its ``expect``.

    The comparison with a reference is not done here. ``limits`` are the effective limits of the run. If the case
    expects ``alone`` or ``distribution``, its requests are run again, which resets the session.
    """
    specs = [spec.within(limits.max_model_len) for spec in specs]
    verdicts = []
    if case.expect.output == "alone":
        verdicts += _as_alone(configuration, case, specs, run, session)
    if case.expect.output == "distribution":
        checkpoint = model_of_run(configuration.model)
        precision, draws = precision_of(configuration.backend, checkpoint), case.expect.draws or 1
        vocabulary = vocabulary_of(checkpoint)
        verdicts += check_distributions(session, limits, specs, case.requests, draws, checkpoint, vocabulary, precision)
    verdicts += [check_same(group, run.tokens) for group in case.expect.same]
    verdicts += [check_unlike(group, run.tokens) for group in case.expect.unlike]
    return verdicts


def _as_alone(
    configuration: Configuration, case: OutputCase, specs: Sequence[RequestSpec], run: Run, session: Session
) -> list[Verdict]:
    """Check that each greedy or seeded request gets the same tokens when it runs without other requests.

    Return a verdict for each greedy or seeded request. Requests that sample without a seed are not checked, because
    their tokens differ from run to run.
    """
    within = DEFAULT_BOUNDS[precision_of(configuration.backend, model_of_run(configuration.model))].abs_tol
    verdicts = []
    for spec, request, tokens in zip(specs, case.requests, run.tokens, strict=True):
        if request.is_repeatable:
            aborted, apart = request.abort_step is not None, None if request.logprobs is None else within
            verdicts.append(check_alone(session, spec, tokens, aborted=aborted, logprobs_within=apart))
    return verdicts
