"""Convert the parts of a mixed step to the tensors of ibm-fms's paged attention. Pure functions.

In a forward of ibm-fms all rows have the same number of positions. So a mixed step takes several forwards: one for all
decodes, then one for each part that is not a decode. These parts run in the order of the step, because a part may read
blocks that an earlier part writes. No part writes to the blocks of another request's decode (docs/engine.md).
"""

from collections.abc import Iterable, Sequence

import numpy
import torch

from engine.model.inputs import PAD_TOKEN_ID, SMALLEST_DECODE_BATCH, IntArray, ModelInputs, pad_block_tables
from engine.scheduling.plan import Part


def decode_rows(parts: Sequence[Part], block_size: int) -> ModelInputs:
    """Return the tensors of one forward of decodes, one row per part.

    A row that has fewer blocks than the longest row has whole blocks of padding on the left. If there is only one part,
    its row is duplicated, because the device needs two rows.
    """
    copies = max(1, SMALLEST_DECODE_BATCH // len(parts))
    rows = [*parts] * copies
    positions = numpy.array([part.start for part in rows])
    table = numpy.array(pad_block_tables([part.blocks for part in rows], max(len(part.blocks) for part in parts)))
    left_paddings = (table.shape[1] - numpy.array([len(part.blocks) for part in rows])) * block_size
    slots = table[:, -1] * block_size + positions % block_size
    return ModelInputs(
        input_ids=torch.tensor([part.token_ids for part in rows]),
        position_ids=torch.from_numpy(positions.reshape(-1, 1)),
        slot_mapping=torch.from_numpy(slots.reshape(-1, 1)),
        mask=None,
        block_table=torch.from_numpy(table),
        current_tkv_mask=torch.from_numpy(left_paddings + positions + 1),
        left_padded_prompt_mask=torch.from_numpy(left_paddings),
        last_n_tokens=1,
        output_position=0,
        output_rows=len(parts),
        block_size=block_size,
    )


def part_inputs(part: Part, block_size: int) -> ModelInputs:
    """Return the tensors of one part, with a position for each of its tokens.

    The keys and values of earlier tokens are read from the KV cache by block table.
    """
    positions = numpy.arange(part.start, part.stop)
    return _row(part, part.token_ids, positions, part.stop, block_size)


def part_in_whole_blocks(part: Part, block_size: int) -> ModelInputs:
    """Return the tensors of one part extended to whole blocks, for devices that read and write whole blocks.

    Tokens that precede the part in its first block are computed again and written to their own slots. No other request
    reads that block, because it is not full. The slots after the part get padding, which the request's next tokens
    overwrite.
    """
    known = part.before + part.token_ids
    first = part.start - len(part.before)
    end = len(part.blocks) * block_size
    token_ids = known + (PAD_TOKEN_ID,) * (end - part.stop)
    return _row(part, token_ids, numpy.arange(first, end), end, block_size)


def _row(part: Part, token_ids: Sequence[int], positions: IntArray, end: int, block_size: int) -> ModelInputs:
    """Return the tensors of a forward of one row, in which ``token_ids`` are at ``positions``.

    ``positions`` is int64 ``[n]``, and consecutive. ``end`` is the position after the last one.
    """
    blocks = numpy.array(part.blocks)
    slots = blocks[positions // block_size] * block_size + positions % block_size
    outputs = min(block_size, len(positions))
    return ModelInputs(
        input_ids=torch.tensor([token_ids]),
        position_ids=torch.from_numpy(positions.reshape(1, -1)),
        slot_mapping=torch.from_numpy(slots.reshape(1, -1)),
        mask=None,
        block_table=torch.from_numpy(blocks.reshape(1, -1)),
        current_tkv_mask=torch.tensor([end]),
        left_padded_prompt_mask=torch.tensor([0]),
        last_n_tokens=outputs,
        output_position=outputs - 1 - (end - part.stop),
        output_rows=1,
        block_size=block_size,
        is_part=True,
    )


def blocks_to_clear(parts: Iterable[Part], block_size: int) -> list[int]:
    """Return the new blocks that the step writes only in part: at most the last block of each of ``parts``."""
    return [part.blocks[-1] for part in parts if part.stop % block_size and _has_new_last_block(part, block_size)]


def _has_new_last_block(part: Part, block_size: int) -> bool:
    return part.start <= (len(part.blocks) - 1) * block_size
