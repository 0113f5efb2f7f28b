"""The type of a mutation, and the lists in which mutations are registered.

A mutation is a fault that a test injects into the engine by patching one function, to check that a case detects it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutation:
    """A mutation. ``name`` says in words what the faulty engine does, and ``patch`` injects the fault.

    ``caught_by`` is the id of the case that must fail. ``message`` must be a part of the text of its failure, such as
    the step, the column or the rule that leads to the fault.
    """

    name: str
    patch: Patch
    caught_by: str
    message: str


SCHEDULE_MUTATIONS: list[Mutation] = []
OUTPUT_MUTATIONS: list[Mutation] = []
END_MUTATIONS: list[Mutation] = []
CHUNKED_MUTATIONS: list[Mutation] = []
CHUNKED_OUTPUT_MUTATIONS: list[Mutation] = []
BUDGET_MUTATIONS: list[Mutation] = []
BUDGET_OUTPUT_MUTATIONS: list[Mutation] = []
SHAPE_MUTATIONS: list[Mutation] = []
START_MUTATIONS: list[Mutation] = []


def mutation(mutations: list[Mutation], caught_by: str, says: str) -> Callable[[Patch], Patch]:
    """Return a decorator that adds a patch to ``mutations``. The name of the mutation is the name of the function.

    ``caught_by`` is the id of the case that must fail, and ``says`` a part of the text of its failure.
    """

    def register(patch: Patch) -> Patch:
        mutations.append(Mutation(patch.__name__.replace("_", " "), patch, caught_by, says))
        return patch

    return register


schedule_mutation = partial(mutation, SCHEDULE_MUTATIONS)
output_mutation = partial(mutation, OUTPUT_MUTATIONS)
end_mutation = partial(mutation, END_MUTATIONS)
chunked_mutation = partial(mutation, CHUNKED_MUTATIONS)
chunked_output_mutation = partial(mutation, CHUNKED_OUTPUT_MUTATIONS)
budget_mutation = partial(mutation, BUDGET_MUTATIONS)
budget_output_mutation = partial(mutation, BUDGET_OUTPUT_MUTATIONS)
shape_mutation = partial(mutation, SHAPE_MUTATIONS)
start_mutation = partial(mutation, START_MUTATIONS)
