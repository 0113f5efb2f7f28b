"""Mutations of the engine: each violates one rule, and names the case that must detect it.

A mutation is a patch of one function of the engine. ``caught_by`` is a case of the suites; test_engine.py runs
it against the mutated engine.
"""

from tests.harness.mutations import (
    admission,
    block_edges,
    chunked,
    chunked_batch,
    coincidences,
    ends,
    logits,
    memory,
    options,
    order,
    outputs,
    parameters,
    prompts,
    sampling,
    schedule,
    shapes,
    states,
    structure_kinds,
    structures,
    token_budget,
    token_budget_memory,
    token_budget_shapes,
    token_budget_states,
    writes,
)
from tests.harness.mutations.registry import (
    BUDGET_MUTATIONS,
    BUDGET_OUTPUT_MUTATIONS,
    CHUNKED_MUTATIONS,
    CHUNKED_OUTPUT_MUTATIONS,
    END_MUTATIONS,
    OUTPUT_MUTATIONS,
    SCHEDULE_MUTATIONS,
    SHAPE_MUTATIONS,
    START_MUTATIONS,
    Mutation,
)

__all__ = [
    "BUDGET_MUTATIONS",
    "BUDGET_OUTPUT_MUTATIONS",
    "CHUNKED_MUTATIONS",
    "CHUNKED_OUTPUT_MUTATIONS",
    "END_MUTATIONS",
    "OUTPUT_MUTATIONS",
    "SCHEDULE_MUTATIONS",
    "SHAPE_MUTATIONS",
    "START_MUTATIONS",
    "Mutation",
    "as_table",
]

# Each module adds its mutations to these lists when it is imported.
DEFINED_IN = (
    schedule,
    admission,
    outputs,
    ends,
    shapes,
    chunked,
    chunked_batch,
    memory,
    states,
    order,
    logits,
    structures,
    structure_kinds,
    prompts,
    sampling,
    parameters,
    token_budget,
    token_budget_memory,
    token_budget_shapes,
    token_budget_states,
    options,
    writes,
    coincidences,
    block_edges,
)
TITLES = {
    "Schedule and blocks": SCHEDULE_MUTATIONS,
    "Batch and attention": OUTPUT_MUTATIONS,
    "Entry point and ends": END_MUTATIONS,
    "Shapes on the device, once it is warm": SHAPE_MUTATIONS,
    "Shapes on the device, from the start": START_MUTATIONS,
    "Chunked prefill: schedule and blocks": CHUNKED_MUTATIONS,
    "Chunked prefill: batch and attention": CHUNKED_OUTPUT_MUTATIONS,
    "Token budget: schedule and blocks": BUDGET_MUTATIONS,
    "Token budget: batch and attention": BUDGET_OUTPUT_MUTATIONS,
}


def as_table() -> str:
    """Return the text of docs/mutations.md, a page with all mutations of the engine."""
    lines = [
        "# Mutations of the engine",
        "",
        "A mutation is a fault that a test injects into the engine by patching one function. The tables list every",
        "mutation in `tests/harness/mutations/*.py`, the case of the suites that must fail because of it, and the part",
        "of the failure's text that identifies the fault. `tests/harness/mutations/test_engine.py` runs the mutations",
        "and checks that this page is up to date.",
    ]
    for title, mutations in TITLES.items():
        lines += ["", f"## {title}", "", "| the engine would … | caught by | the failure says |", "| --- | --- | --- |"]
        lines += [
            f"| {mutation.name} | `{mutation.caught_by}` | {mutation.message} |" for mutation in _in_order(mutations)
        ]
    return "\n".join(lines) + "\n"


def _in_order(mutations: list[Mutation]) -> list[Mutation]:
    """Sort mutations by the file in which they are defined, in the order of DEFINED_IN.

    They are registered in alphabetical order, because the imports are sorted.
    """
    modules = [module.__name__ for module in DEFINED_IN]
    return sorted(mutations, key=lambda mutation: modules.index(mutation.patch.__module__))


if __name__ == "__main__":
    print(as_table(), end="")
