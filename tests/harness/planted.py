"""Mutations of the engine: each violates one rule, and names the case that must detect it.

A mutation is a patch of one function of the engine. ``caught_by`` is a case of the suites; test_planted_faults.py runs
it against the mutated engine.
"""

from tests.harness import (
    planted_admission,
    planted_chunked,
    planted_ends,
    planted_logits,
    planted_memory,
    planted_order,
    planted_outputs,
    planted_sampling,
    planted_schedule,
    planted_shapes,
    planted_states,
    planted_token_budget,
    planted_token_budget_memory,
    planted_token_budget_shapes,
)
from tests.harness.faults import (
    BUDGET_FAULTS,
    BUDGET_OUTPUT_FAULTS,
    CHUNKED_FAULTS,
    CHUNKED_OUTPUT_FAULTS,
    END_FAULTS,
    OUTPUT_FAULTS,
    SCHEDULE_FAULTS,
    SHAPE_FAULTS,
    START_FAULTS,
    Fault,
)

__all__ = [
    "BUDGET_FAULTS",
    "BUDGET_OUTPUT_FAULTS",
    "CHUNKED_FAULTS",
    "CHUNKED_OUTPUT_FAULTS",
    "END_FAULTS",
    "OUTPUT_FAULTS",
    "SCHEDULE_FAULTS",
    "SHAPE_FAULTS",
    "START_FAULTS",
    "Fault",
    "as_table",
]

# Each module adds its mutations to these lists when it is imported.
PLANTED_BY = (
    planted_schedule,
    planted_admission,
    planted_outputs,
    planted_ends,
    planted_shapes,
    planted_chunked,
    planted_memory,
    planted_states,
    planted_order,
    planted_logits,
    planted_sampling,
    planted_token_budget,
    planted_token_budget_memory,
    planted_token_budget_shapes,
)
TITLES = {
    "Schedule and blocks": SCHEDULE_FAULTS,
    "Batch and attention": OUTPUT_FAULTS,
    "Entry point and ends": END_FAULTS,
    "Shapes on the device, once it is warm": SHAPE_FAULTS,
    "Shapes on the device, from the start": START_FAULTS,
    "Chunked prefill: schedule and blocks": CHUNKED_FAULTS,
    "Chunked prefill: batch and attention": CHUNKED_OUTPUT_FAULTS,
    "Token budget: schedule and blocks": BUDGET_FAULTS,
    "Token budget: batch and attention": BUDGET_OUTPUT_FAULTS,
}


def as_table() -> str:
    """Return docs/planted-faults.md: every mutation and the case that must detect it."""
    lines = [
        "# Mutations of the engine",
        "",
        "Mutations (`tests/harness/planted*.py`), each a patch of one function of the engine, and the case of the",
        "suites that must detect each, with the part of the failure's text that leads to the fault.",
        "`tests/harness/test_planted_faults.py` runs them and checks that this page is up to date.",
    ]
    for title, faults in TITLES.items():
        lines += ["", f"## {title}", "", "| the engine would … | caught by | the failure says |", "| --- | --- | --- |"]
        lines += [f"| {fault.name} | `{fault.caught_by}` | {fault.says} |" for fault in _in_order(faults)]
    return "\n".join(lines) + "\n"


def _in_order(faults: list[Fault]) -> list[Fault]:
    """Sort by file as in PLANTED_BY, since imports are sorted by name."""
    modules = [module.__name__ for module in PLANTED_BY]
    return sorted(faults, key=lambda fault: modules.index(fault.patch.__module__))


if __name__ == "__main__":
    print(as_table(), end="")
