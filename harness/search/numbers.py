"""What shrinking goes towards: the limits that engines of a search are built with, and small numbers."""

from collections.abc import Iterator

from harness.search.workloads import BATCH, BLOCKS, CONTEXT

AS_BUILT = {
    "max_model_len": CONTEXT,
    "max_num_seqs": BATCH,
    "available_blocks": BLOCKS,
    "max_batch_tkv_limit": CONTEXT * BATCH,
}


def towards(number: int, least: int) -> Iterator[int]:
    """Numbers between, the least first."""
    if number > least:
        yield from dict.fromkeys((least, (least + number) // 2, number - 1))
