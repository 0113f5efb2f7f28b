"""Determine whether and why a test is skipped: the driver lacks a capability, or can't start the engine."""

from collections.abc import Iterator

from harness.cases.behaviour.needs import MISFITS, needs_of
from harness.checks.outputs import requested_policy
from harness.drivers.base import GOLDEN_TOKENS, LOGPROBS, PAUSING, STEP_TRACE, STRUCTURED_OUTPUTS, TOKENS, Driver
from harness.drivers.optional import serves, why_lacking
from harness.suites.expand import Expanded
from harness.suites.schema import BehaviourCase, OutputCase, Policy, StepsCase
from harness.types import SchedulingLimits

PAUSES = frozenset({"pause", "abort_of_paused", "wait_for_paused"})
"""Events that only a scheduler that pauses requests can have."""


def why_skipped(expanded: Expanded, driver: Driver, policy_of_the_run: Policy | None = None) -> str | None:
    """Return, as one sentence, why the test is skipped with this driver. Return None if the driver can run it.

    ``policy_of_the_run`` is the comparison policy given on the command line, None if there is none.
    """
    lacking = missing_capability(expanded, driver.capabilities, policy_of_the_run)
    case, setup = expanded.case, expanded.setup
    if lacking == PAUSING and (reason := driver.unavailable(setup)):
        return reason  # Only one scheduler pauses. For a driver with another scheduler, that is the reason.
    if lacking is not None:
        return lacking if lacking in MISFITS else why_lacking(driver, lacking)
    if reason := driver.unavailable(setup):
        return reason
    if expanded.configuration.entry_point == "http" and isinstance(case, BehaviourCase) and serves(driver):
        return driver.unfit(setup, SchedulingLimits(**expanded.limits.model_dump()), case.server)
    return None


def missing_capability(
    expanded: Expanded, capabilities: frozenset[str], policy_of_the_run: Policy | None = None
) -> str | None:
    """Return the name of the first capability that the test needs and that is not in ``capabilities``, None if none.

    If no driver can run the case at the test's entry point (in-process or HTTP), return the reason, a sentence from
    ``MISFITS``, instead of a name. ``policy_of_the_run`` is the comparison policy given on the command line, or None.
    """
    return next((need for need in _needs(expanded, capabilities, policy_of_the_run) if need not in capabilities), None)


def _needs(expanded: Expanded, capabilities: frozenset[str], policy_of_the_run: Policy | None) -> Iterator[str]:
    case = expanded.case
    if isinstance(case, BehaviourCase):
        yield from needs_of(case, expanded.configuration.entry_point)
        return
    assert isinstance(case, StepsCase | OutputCase)
    yield STEP_TRACE
    if {happening.event for happening in case.happens} & PAUSES:
        yield PAUSING
    if TOKENS not in capabilities and isinstance(case, StepsCase) and all(r.can_be_simulated for r in case.requests):
        return  # The driver runs no model. Only the steps of the case are checked.
    yield TOKENS
    policy = requested_policy(expanded, policy_of_the_run)
    if case.expect.output == "reference" and policy is not None and policy.name == "golden":
        yield from (GOLDEN_TOKENS, LOGPROBS)
    if any(request.logprobs is not None for request in case.requests):
        yield LOGPROBS
    if any(request.structured_outputs is not None for request in case.requests):
        yield STRUCTURED_OUTPUTS
