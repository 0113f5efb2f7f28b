"""Tests of bounds on the number of engine steps of the action ``generate``.

A number of steps at a bound passes and one beyond it fails. If the driver does not report steps, bounds fail.
"""

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from harness.cases.behaviour.needs import STEPS_IN_PROCESS, needs_of
from harness.cases.behaviour.steps import Watched, check_bounds, check_generate
from harness.schedulers import SPECS
from harness.suites.schema import BehaviourCase, StepBounds
from harness.types import SchedulingLimits
from tests.helpers.harness import a_request, simulate

# Step 1 prefills request 0, step 2 request 1; then both decode.
SEEN = simulate(a_request(60, 4), a_request(20, 4))
CALL = {"prompt": {"random_tokens": 9}, "max_tokens": 3}


@pytest.mark.parametrize(
    ("bounds", "output"),
    [
        ({"queue": 1, "first_token": 2, "between": 2}, "every request took at most the steps allowed: queue 1"),
        ({"queue": 0}, "too many steps: request 1 waited 1 steps, at most 0 are allowed"),
        ({"first_token": 1}, "too many steps: request 1 got its first token after 2 steps, at most 1 are allowed"),
        ({"between": 1}, "too many steps: request 0 got a token after 2 steps, at most 1 are allowed"),
        ({"queue": 0, "between": 1}, "(and 1 more)"),
    ],
)
def test_bounds(bounds: dict[str, int], output: str) -> None:
    verdict = check_bounds(SEEN.run, SEEN.specs, StepBounds(**bounds))
    assert output in verdict.headline
    assert verdict.passed is output.startswith("every")


def test_a_driver_without_visible_steps_fails_only_with_bounds() -> None:
    watched = Watched(SimpleNamespace(), SchedulingLimits(), SPECS["continuous"])
    assert check_generate(watched, None, SEEN.specs, SEEN.requests, None) == []
    [verdict] = check_generate(watched, None, SEEN.specs, SEEN.requests, StepBounds(queue=1))
    assert verdict.headline == "max_steps can't be checked: this driver does not report the steps of generate"
    assert not verdict.passed


def case(**action: Any) -> BehaviourCase:
    return BehaviourCase.model_validate({"id": "a", "actions": [action]})


def test_bounds_are_for_generate_in_process() -> None:
    bounded = case(generate=[CALL], expect={"max_steps": {"queue": 1}})
    assert STEPS_IN_PROCESS in needs_of(bounded, "http")
    assert STEPS_IN_PROCESS not in needs_of(bounded, "in-process")
    with pytest.raises(ValidationError, match="max_steps is only allowed for the action generate"):
        case(complete=CALL, expect={"max_steps": {"queue": 1}})
    with pytest.raises(ValidationError, match="give at least one of queue, first_token and between"):
        case(generate=[CALL], expect={"max_steps": {}})
