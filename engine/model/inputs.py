"""Convert a step plan to the tensors of ibm-fms's paged attention (docs/engine.md). Pure functions.

A prompt never attends to padding. Left padding attends to itself, so that no row of the mask is all -inf. Right padding
attends to everything before it; its output is not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.kv_cache.block_pool import PADDING_BLOCK
from engine.kv_cache.blocks import BLOCK_SIZE, blocks_for
from engine.scheduling.plan import AlignedDecode, Decode, MixedStep, Prefill, PrefillChunk, Runnable
from engine.sequence import SequenceState

IntArray = NDArray[numpy.int64]

PAD_TOKEN_ID = 0
SMALLEST_DECODE_BATCH = 2
"""The device has no decode of one row: a lone sequence is duplicated, and the output of the copy is dropped."""


@dataclass(frozen=True)
class ModelInputs:
    """The tensors of one forward.

    ``input_ids``, ``position_ids`` and ``slot_mapping`` are int64 ``[rows, positions]``: a prefill has one row of whole
    blocks, a decode one position per row. ``mask`` (whole prefill) is ``[1, 1, n, n]`` of 0 and -inf, in the model's
    dtype. ``block_table`` (decode) is int64 ``[rows, blocks]``, ``current_tkv_mask`` (decode) int64 ``[rows]``, the tkv
    with the new token, ``left_padded_prompt_mask`` (decode) int64 ``[rows]``, left pads in columns. A chunk of a
    prefill has the tensors of a decode, for one row of many positions, and so has a part of a mixed step (``is_part``),
    whose number of positions varies. ``block_size`` is in tokens. The forward returns logits of the ``last_n_tokens``
    positions; ``output_position`` is the one to sample from, for the first ``output_rows`` rows.
    """

    input_ids: Tensor
    position_ids: Tensor
    slot_mapping: Tensor
    mask: Tensor | None
    block_table: Tensor | None
    current_tkv_mask: Tensor | None
    left_padded_prompt_mask: Tensor | None
    last_n_tokens: int
    output_position: int
    output_rows: int
    block_size: int = BLOCK_SIZE
    is_part: bool = False

    @property
    def kind(self) -> str:
        """``prefill``, ``chunk``, ``part`` or ``decode``: a backend that compiles has a graph for each."""
        if self.block_table is None:
            return "prefill"
        if self.is_part:
            return "part"
        return "chunk" if self.input_ids.shape[1] > 1 else "decode"


def token_ids_for(plan: Runnable, rows: Sequence[SequenceState]) -> tuple[int, ...]:
    """Return the input tokens of a plan: of a prefill the prompt or its part, of a decode the newest token of each row.

    A mixed step has its tokens in its parts, so the result is empty.
    """
    if isinstance(plan, MixedStep):
        return ()
    if isinstance(plan, PrefillChunk):
        return plan.token_ids
    if isinstance(plan, Prefill):
        return rows[0].request.prompt_token_ids
    return tuple([sequence.tokens[-1].token_id for sequence in rows])


def prefill_inputs(plan: Prefill, prompt_token_ids: Sequence[int], dtype: torch.dtype = torch.float32) -> ModelInputs:
    """Return the tensors of one prompt in whole blocks: left padding, prompt, right padding."""
    length, left = plan.prompt_length, plan.left_padding
    computed = len(plan.blocks) * BLOCK_SIZE
    right = computed - left - length
    input_ids = torch.full((1, computed), PAD_TOKEN_ID, dtype=torch.int64)
    input_ids[0, left : left + length] = torch.tensor(prompt_token_ids, dtype=torch.int64)
    blocks = torch.tensor(plan.blocks, dtype=torch.int64)
    return ModelInputs(
        input_ids=input_ids,
        position_ids=(torch.arange(computed) - left).clamp(min=0)[None],
        slot_mapping=(blocks[:, None] * BLOCK_SIZE + torch.arange(BLOCK_SIZE)).view(1, -1),
        mask=_prefill_mask(computed, left, dtype),
        block_table=None,
        current_tkv_mask=None,
        left_padded_prompt_mask=None,
        last_n_tokens=BLOCK_SIZE,
        output_position=BLOCK_SIZE - 1 - right,
        output_rows=1,
    )


def _prefill_mask(computed: int, left: int, dtype: torch.dtype) -> Tensor:
    """Return a causal mask in which positions after the left padding do not attend to it."""
    mask = torch.full((computed, computed), -torch.inf, dtype=dtype).triu_(diagonal=1)
    mask[left:, :left] = -torch.inf
    return mask[None, None]


def decode_inputs(plan: Decode, last_token_ids: Sequence[int]) -> ModelInputs:
    """Return the tensors of a decode; ``last_token_ids`` is by row like the plan."""
    copies = max(1, SMALLEST_DECODE_BATCH // len(plan.request_ids))
    tkv, left = plan.tkv, numpy.array(plan.left_paddings * copies)
    tables = pad_block_tables(plan.block_tables * copies, blocks_for(tkv + 1))
    return one_token_a_row(plan, last_token_ids, tkv - left, left, numpy.full_like(left, tkv + 1), tables)


def one_token_a_row(
    plan: Decode | AlignedDecode,
    last_token_ids: Sequence[int],
    positions: IntArray,
    left_paddings: IntArray,
    tkvs: IntArray,
    tables: Sequence[Sequence[int]],
) -> ModelInputs:
    """Return the tensors of a decode from arrays ``[rows]``, with the copy of a lone row; ``tkvs`` with the new token.

    Uses numpy: on arrays of this size torch takes ten times as long.
    """
    rows = len(plan.request_ids)
    block_table = numpy.array(tables)
    slots = block_table[:, -1] * BLOCK_SIZE + (tkvs - 1) % BLOCK_SIZE
    return ModelInputs(
        input_ids=torch.from_numpy(numpy.array([*last_token_ids] * (len(positions) // rows)).reshape(-1, 1)),
        position_ids=torch.from_numpy(positions.reshape(-1, 1)),
        slot_mapping=torch.from_numpy(slots.reshape(-1, 1)),
        mask=None,
        block_table=torch.from_numpy(block_table),
        current_tkv_mask=torch.from_numpy(tkvs),
        left_padded_prompt_mask=torch.from_numpy(left_paddings),
        last_n_tokens=1,
        output_position=0,
        output_rows=rows,
    )


def pad_block_tables(tables: Sequence[Sequence[int]], width: int) -> list[list[int]]:
    """Pad block tables to ``width`` with the padding block on the left."""
    return [[PADDING_BLOCK] * (width - len(table)) + list(table) for table in tables]
