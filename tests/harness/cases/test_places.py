"""Tests of the place in a case that an error is about."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from harness.cases.places import place_in_case
from harness.cases.test import CaseError
from harness.references.structures import StructureError
from harness.suites.schema import BehaviourCase, OutputCase
from harness.suites.yaml import YamlPath
from harness.types import Structure

BAD = {"regex": "("}
ASKED = {"prompt": {"random_tokens": 5}, "max_tokens": 2, "structured_outputs": BAD}
OTHER = {**ASKED, "structured_outputs": {"choice": ["yes"]}}
CHAT = {"messages": [{"role": "user", "content": "Hi"}], "structured_outputs": BAD}
ERROR = StructureError("llguidance can't compile this regex", Structure("regex", "("))


def test_a_structure_of_an_output_case_is_found_by_its_request() -> None:
    case = TypeAdapter(OutputCase).validate_python(
        {"id": "a", "requests": [OTHER, ASKED, ASKED], "expect": {"output": "alone"}}
    )
    assert place_in_case(case, ERROR) == ("requests", 1, "structured_outputs")
    assert place_in_case(case, StructureError("llguidance is not installed")) == ()
    assert place_in_case(case, CaseError("too long", "requests", 2)) == ("requests", 2)
    assert place_in_case(case, CaseError("too long")) == ()


@pytest.mark.parametrize(
    ("action", "place"),
    [
        ({"generate": [OTHER, ASKED]}, ("generate", 1)),
        ({"complete": ASKED}, ("complete",)),
        ({"stream": ASKED}, ("stream",)),
        ({"chat": CHAT}, ("chat",)),
        ({"flood": {"clients": 2, "call": ASKED}}, ("flood", "call")),
    ],
)
def test_a_structure_of_a_behaviour_case_is_found_by_its_action(action: dict[str, Any], place: YamlPath) -> None:
    action = action if "flood" in action else {**action, "expect": {"usage": True}}
    case = TypeAdapter(BehaviourCase).validate_python({"id": "a", "actions": [{"wait": {"idle": True}}, action]})
    assert place_in_case(case, ERROR) == ("actions", 1, *place, "structured_outputs")
