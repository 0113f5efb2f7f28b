"""Convert plans of the chunked scheduler to the tensors of ibm-fms's paged attention. Pure functions.

A chunk is computed like a decode of one row with many positions: its keys and values are stored, and then it attends
to all tokens up to itself by block table.
"""

from collections.abc import Sequence

import numpy
import torch

from engine.kv_cache.block_pool import PADDING_BLOCK
from engine.kv_cache.blocks import BLOCK_SIZE
from engine.model.inputs import PAD_TOKEN_ID, SMALLEST_DECODE_BATCH, ModelInputs, one_token_a_row, pad_block_tables
from engine.scheduling.plan import AlignedDecode, PrefillChunk


def chunk_inputs(plan: PrefillChunk) -> ModelInputs:
    """Return the tensors of one chunk: left padding, prompt tokens, and right padding to the end of the last block.

    A block that was found in the prefix cache is only read. If the chunk computes the tokens of this block again, their
    keys and values are written to the padding block.
    """
    first_column, end = plan.number * plan.chunk_size, (plan.number + 1) * plan.chunk_size
    offset, length = plan.left_padding + plan.start - first_column, len(plan.token_ids)
    input_ids = torch.full((1, plan.chunk_size), PAD_TOKEN_ID, dtype=torch.int64)
    input_ids[0, offset : offset + length] = torch.tensor(plan.token_ids, dtype=torch.int64)
    position_ids = torch.zeros((1, plan.chunk_size), dtype=torch.int64)
    position_ids[0, offset : offset + length] = torch.arange(plan.start, plan.start + length)

    padding = plan.left_padding // BLOCK_SIZE
    table = ([PADDING_BLOCK] * padding + list(plan.blocks))[: end // BLOCK_SIZE]
    untouchable = padding + plan.hit_blocks
    written = [PADDING_BLOCK if i < untouchable else block for i, block in enumerate(table)][
        first_column // BLOCK_SIZE :
    ]
    starts = torch.tensor(written, dtype=torch.int64)[:, None] * BLOCK_SIZE
    return ModelInputs(
        input_ids=input_ids,
        position_ids=position_ids,
        slot_mapping=(starts + torch.arange(BLOCK_SIZE)).view(1, -1),
        mask=None,
        block_table=torch.tensor([table], dtype=torch.int64),
        current_tkv_mask=torch.tensor([end], dtype=torch.int64),
        left_padded_prompt_mask=torch.tensor([plan.left_padding], dtype=torch.int64),
        last_n_tokens=BLOCK_SIZE,
        output_position=(plan.start + length - 1) % BLOCK_SIZE,
        output_rows=1,
    )


def aligned_decode_inputs(plan: AlignedDecode, last_token_ids: Sequence[int]) -> ModelInputs:
    """Return the tensors of a decode in which each row has its own tkv.

    A row that has fewer blocks than the longest row has whole blocks of padding on the left.
    """
    copies = max(1, SMALLEST_DECODE_BATCH // len(plan.request_ids))
    computed, tkvs = numpy.array(plan.computed * copies), numpy.array(plan.tkvs * copies)
    tables = pad_block_tables(plan.block_tables * copies, max(map(len, plan.block_tables)))
    return one_token_a_row(plan, last_token_ids, computed, tkvs - 1 - computed, tkvs, tables)
