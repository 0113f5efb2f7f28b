"""Convert the parts of a mixed step to the tensors of ibm-fms's paged attention. Pure functions.

All rows of a forward of ibm-fms have the same number of positions, so a mixed step is several forwards: one for all
decodes, whose blocks no other part of the step writes, then one for each other part in the order of the step, since a
part may read what an earlier part has written (docs/engine.md).
"""

from collections.abc import Iterable, Sequence

import numpy
import torch

from engine.model.inputs import PAD_TOKEN_ID, SMALLEST_DECODE_BATCH, IntArray, ModelInputs, pad_block_tables
from engine.scheduling.plan import Part


def decode_rows(parts: Sequence[Part], block_size: int) -> ModelInputs:
    """Return the tensors of the decodes; shorter rows have whole blocks of padding on the left."""
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
    """Return the tensors of one part, with exactly its positions; earlier tokens are read by block table."""
    positions = numpy.arange(part.start, part.stop)
    return _row(part, part.token_ids, positions, part.stop, block_size)


def part_in_whole_blocks(part: Part, block_size: int) -> ModelInputs:
    """Return the tensors of one part extended to whole blocks, for devices that read and write whole blocks.

    Tokens before the part in its first block are computed again and written to their own slots; that block is not full,
    so no other request reads it. Slots after the part get padding, until the request's next tokens overwrite them.
    """
    known = part.before + part.token_ids
    first = part.start - len(part.before)
    end = len(part.blocks) * block_size
    token_ids = known + (PAD_TOKEN_ID,) * (end - part.stop)
    return _row(part, token_ids, numpy.arange(first, end), end, block_size)


def _row(part: Part, token_ids: Sequence[int], positions: IntArray, end: int, block_size: int) -> ModelInputs:
    """Return the tensors of one row: ``token_ids`` at the consecutive ``positions`` (int64 ``[n]``) up to ``end``."""
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
    """Return new blocks that a part does not fill: at most the last block of each part."""
    return [part.blocks[-1] for part in parts if part.stop % block_size and _has_new_last_block(part, block_size)]


def _has_new_last_block(part: Part, block_size: int) -> bool:
    return part.start <= (len(part.blocks) - 1) * block_size
