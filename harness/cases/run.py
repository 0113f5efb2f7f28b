"""Run one test, that is, one case in one configuration, on an engine that is already started."""

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
    """Set the engine's limits to those of the case, run the case and check it. Return the verdicts.

    Raises CaseError if the engine can't be run with these limits, or if the model's tokenizer can't produce a prompt of
    the case. Raises CheckpointError if the model is not available, GoldenError if the golden step table is missing or
    damaged, and ReferenceMissingError or ReferenceFileError if a reference output is missing or its file is damaged.
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
    assert is_offline(session)  # Without the capability, the case would have been skipped.
    return run_at_client(test, session.client(case.server), Watched(session, limits, test.scheduler))


def run_at_client(test: Test, client: Client, watched: Watched | None = None) -> Verdicts:
    """Run a behaviour case with a client of an engine that already has the case's limits.

    ``watched`` is the engine if it runs in this process and its steps are to be checked, else None. Raises CaseError if
    the model's tokenizer can't produce a prompt, CheckpointError if the model is not available, and
    ReferenceMissingError or ReferenceFileError if a reference output is missing or its file is damaged.
    """
    try:
        with spent.timed("behaviour"):
            return tuple(run_behaviour(test, client, watched))
    except ReferenceFileError:
        raise
    except ValueError as error:
        raise CaseError(str(error)) from error
