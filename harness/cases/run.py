"""Run one test: the case in its configuration on a warm engine, with the runner of its kind."""

from harness.cases.behaviour.run import run_behaviour
from harness.cases.behaviour.steps import Watched
from harness.cases.output import run_output
from harness.cases.steps import run_steps
from harness.cases.test import CaseError, Test, Verdicts
from harness.drivers.base import Session
from harness.drivers.client import Client
from harness.drivers.optional import is_offline
from harness.references import ReferenceFileError
from harness.suites.schema import BehaviourCase, OutputCase, StepsCase
from harness.types import SchedulingLimits
from harness.utils import spent


def run_test(test: Test, session: Session) -> Verdicts:
    """Set the case's limits, run it and check it. Returns verdicts in order.

    Raises CaseError if limits or prompts are impossible for this engine or model, CheckpointError, GoldenError,
    ReferenceMissingError and ReferenceFileError.
    """
    case = test.expanded.case
    try:
        limits = session.reset(SchedulingLimits(**test.expanded.limits.model_dump()))
    except ValueError as error:
        raise CaseError(str(error)) from error
    if isinstance(case, StepsCase):
        return run_steps(test, case, session, limits)
    if isinstance(case, OutputCase):
        return run_output(test, case, session, limits)
    assert isinstance(case, BehaviourCase)
    assert is_offline(session)  # the driver's capabilities say so, and the case was skipped without
    return run_at_client(test, session.client(case.server), Watched(session, limits, test.scheduler))


def run_at_client(test: Test, client: Client, watched: Watched | None = None) -> Verdicts:
    """Run a behaviour case at an engine with the case's limits. ``watched`` is set if its steps are visible.

    Raises CaseError, CheckpointError, ReferenceMissingError and ReferenceFileError.
    """
    try:
        with spent.timed("behaviour"):
            return tuple(run_behaviour(test, client, watched))
    except ReferenceFileError:
        raise
    except ValueError as error:
        raise CaseError(str(error)) from error
