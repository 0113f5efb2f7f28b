"""The type of a mutation, and the registry of mutations in the order of definition."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Fault:
    """A mutation. ``says`` must be part of the failure's text: the step, the column or the rule that leads to the
    fault."""

    name: str
    patch: Patch
    caught_by: str
    says: str


SCHEDULE_FAULTS: list[Fault] = []
OUTPUT_FAULTS: list[Fault] = []
END_FAULTS: list[Fault] = []
CHUNKED_FAULTS: list[Fault] = []
CHUNKED_OUTPUT_FAULTS: list[Fault] = []
BUDGET_FAULTS: list[Fault] = []
BUDGET_OUTPUT_FAULTS: list[Fault] = []
SHAPE_FAULTS: list[Fault] = []
START_FAULTS: list[Fault] = []


def fault(faults: list[Fault], caught_by: str, says: str) -> Callable[[Patch], Patch]:
    """Register a patch under its function's name."""

    def register(patch: Patch) -> Patch:
        faults.append(Fault(patch.__name__.replace("_", " "), patch, caught_by, says))
        return patch

    return register


schedule_fault = partial(fault, SCHEDULE_FAULTS)
output_fault = partial(fault, OUTPUT_FAULTS)
end_fault = partial(fault, END_FAULTS)
chunked_fault = partial(fault, CHUNKED_FAULTS)
chunked_output_fault = partial(fault, CHUNKED_OUTPUT_FAULTS)
budget_fault = partial(fault, BUDGET_FAULTS)
budget_output_fault = partial(fault, BUDGET_OUTPUT_FAULTS)
shape_fault = partial(fault, SHAPE_FAULTS)
start_fault = partial(fault, START_FAULTS)
