"""Determine what a step of the reference engine wrote to the KV cache.

The writes are computed from the step's plan, which has the block tables, and the slot mappings of its forward passes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from engine.scheduling.plan import AlignedDecode, Decode, Idle, MixedStep, Part, PrefillChunk, StepPlan
from harness.types import Write

Rows = Sequence[Sequence[int]]


def writes_of(plan: StepPlan, forwards: Sequence[Any], block_size: int, first: int = 0) -> tuple[Write, ...]:
    """Return what a step wrote to the KV cache, one entry for each request, in the order of the forward passes.

    ``forwards`` has the slot mapping of each forward pass of the step, int64 ``[rows, positions]``. The request ids in
    ``plan`` are numbers as strings. The result names a request by its id minus ``first``, the id of the first request.
    ``block_size`` is in tokens.
    """
    if isinstance(plan, Idle):  # No forward was run, so ``forwards`` are those of an earlier step.
        return ()
    # Slots of block 0, the padding block, are left out.
    slots = [[[slot for slot in row if slot >= block_size] for row in forward.tolist()] for forward in forwards]
    if isinstance(plan, MixedStep):
        return tuple(_of_parts(plan.parts, slots, first))
    if isinstance(plan, Decode | AlignedDecode):
        computed = [count + 1 for count in plan.computed] if isinstance(plan, AlignedDecode) else None
        return tuple(
            _write(request_id, table, slots[0][row :: len(plan.request_ids)], computed[row] if computed else 0, first)
            for row, (request_id, table) in enumerate(zip(plan.request_ids, plan.block_tables, strict=True))
        )
    computed_after = plan.start + len(plan.token_ids) if isinstance(plan, PrefillChunk) else 0
    rows = [row for forward in slots for row in forward]
    return (_write(plan.request_id, plan.blocks, rows, computed_after, first),)


def _of_parts(parts: Sequence[Part], slots: Sequence[Rows], first: int) -> Iterator[Write]:
    """Yield what each request wrote to the KV cache in a mixed step.

    ``parts`` has what the step computes for each request. A mixed step runs one forward pass for all decodes, if there
    are any, and then one for each prefill. ``slots`` has the slot mapping of each forward pass. ``first`` is the id of
    the first request, as in ``writes_of``.
    """
    decodes = [part for part in parts if part.is_decode]
    others = [part for part in parts if not part.is_decode]
    for row, part in enumerate(decodes):
        # A forward has at least two rows: if there is only one decode, its row is repeated.
        yield _write(part.request_id, part.blocks, slots[0][row :: len(decodes)], part.stop, first)
    for part, rows in zip(others, slots[bool(decodes) :], strict=True):
        yield _write(part.request_id, part.blocks, rows, part.stop, first)


def _write(request_id: str, table: tuple[int, ...], rows: Rows, computed: int, first: int) -> Write:
    slots = tuple(sorted({slot for row in rows for slot in row}))
    return Write(int(request_id) - first, tuple(table), slots, computed)
