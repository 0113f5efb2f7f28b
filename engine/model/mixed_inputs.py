"""The parts of a mixed step as the tensors that ibm-fms's paged attention takes. Pure functions.

ibm-fms takes rows of equally many positions, so a mixed step is several forwards: one for all decodes, whose blocks no
other part of the step writes, then one for each other part in the order of the step, since it may read what an earlier
part has just written (docs/engine.md).
"""

from collections.abc import Iterable, Sequence

import numpy
import torch

from engine.model.inputs import PAD_TOKEN_ID, SMALLEST_DECODE_BATCH, IntArray, ModelInputs, pad_block_tables
from engine.scheduling.plan import Part


def decode_rows(parts: Sequence[Part], block_size: int) -> ModelInputs:
    """One new token a row, each row with its own length; a shorter one has whole blocks of padding on the left."""
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
    """The positions of one part and no others; what it attends to before them is read by block table."""
    positions = numpy.arange(part.start, part.stop)
    return _row(part, part.token_ids, positions, part.stop, block_size)


def part_in_whole_blocks(part: Part, block_size: int) -> ModelInputs:
    """The same from the beginning of its first block to the end of its last, for what reads and writes whole blocks.

    Tokens in front of the part are computed again and written where they are; that block is not full, so no other
    request reads it. What is written behind the part is padding, until the request's next tokens take its place.
    """
    known = part.before + part.token_ids
    first = part.start - len(part.before)
    end = len(part.blocks) * block_size
    token_ids = known + (PAD_TOKEN_ID,) * (end - part.stop)
    return _row(part, token_ids, numpy.arange(first, end), end, block_size)


def _row(part: Part, token_ids: Sequence[int], positions: IntArray, end: int, block_size: int) -> ModelInputs:
    """``positions`` int64 ``[n]`` follow each other up to ``end``, and ``token_ids`` stand at them."""
    blocks = numpy.array(part.blocks)
    slots = blocks[positions // block_size] * block_size + positions % block_size
    outputs = min(block_size, len(positions))
    return ModelInputs(
        input_ids=torch.tensor([token_ids]),
        position_ids=torch.from_numpy(positions[None]),
        slot_mapping=torch.from_numpy(slots[None]),
        mask=None,
        block_table=torch.from_numpy(blocks[None]),
        current_tkv_mask=torch.tensor([end]),
        left_padded_prompt_mask=torch.tensor([0]),
        last_n_tokens=outputs,
        output_position=outputs - 1 - (end - part.stop),
        output_rows=1,
        block_size=block_size,
        is_part=True,
    )


def blocks_to_clear(parts: Iterable[Part], block_size: int) -> list[int]:
    """Blocks that parts were just given and do not write whole: only a last one can be."""
    return [part.blocks[-1] for part in parts if part.stop % block_size and _has_new_last_block(part, block_size)]


def _has_new_last_block(part: Part, block_size: int) -> bool:
    return part.start <= (len(part.blocks) - 1) * block_size
