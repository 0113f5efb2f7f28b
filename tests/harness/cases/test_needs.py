"""Tests of the capabilities that a driver must have for a behaviour case."""

from typing import Any

import pytest

from harness.cases.behaviour.needs import needs_of
from harness.drivers.base import STRUCTURED_OUTPUTS
from harness.suites.schema import BehaviourCase


@pytest.mark.parametrize(
    ("content", "needed"),
    [
        ({"prompt": "a", "structured_outputs": {"regex": "b"}}, True),
        ({"prompt": "a", "response_format": {"type": "json_object"}}, True),
        ({"prompt": "a"}, False),
        (["structured_outputs"], False),
    ],
)
def test_an_http_request_with_a_structure_needs_structured_outputs(content: Any, needed: bool) -> None:
    action = {"http": {"content": content}, "expect": {"status": 200}}
    case = BehaviourCase.model_validate({"id": "a", "actions": [action]})
    assert (STRUCTURED_OUTPUTS in needs_of(case, "http")) is needed
