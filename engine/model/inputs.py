"""Convert plans of the continuous scheduler to the tensors of ibm-fms's paged attention. Pure functions.

Source: docs/engine.md. Tokens of a prompt never attend to padding. Left padding attends to itself, so that no row of
the mask is all -inf. Right padding attends to all positions before it; the output at these positions is not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
"""The device requires two rows in a decode: a lone sequence is duplicated, and the output of the copy is dropped."""


@dataclass(frozen=True)
class ModelInputs:
    """The tensors of one forward, with the names of ibm-fms.

    ``input_ids``, ``position_ids`` and ``slot_mapping`` are int64 ``[rows, positions]``. A prefill has one row of whole
    blocks; a decode has one position per row; a chunk of a prompt, and a part of a mixed step (``is_part``), have one
    row of several positions.

    A prefill has a ``mask`` ``[1, 1, positions, positions]`` of 0 and -inf, in the model's dtype. All other forwards
    have ``block_table``, int64 ``[rows, blocks]``; ``current_tkv_mask``, int64 ``[rows]``, the tkv after the step; and
    ``left_padded_prompt_mask``, int64 ``[rows]``, the left padding in tokens.

    The forward returns the logits of the last ``last_n_tokens`` positions of each row. ``output_position`` is the
    index, among these positions, of the position to sample from. Only the first ``output_rows`` rows are sampled: the
    other rows are copies. ``block_size`` is in tokens.
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
        """Return the kind of this forward. A backend that compiles has a graph for each kind.

        The kind is ``prefill`` (a whole prompt), ``chunk`` (a chunk of a prompt), ``part`` (what a mixed step computes
        for one request) or ``decode`` (one token for each row).
        """
        if self.block_table is None:
            return "prefill"
        if self.is_part:
            return "part"
        return "chunk" if self.input_ids.shape[1] > 1 else "decode"


def token_ids_for(plan: Runnable, rows: Sequence[SequenceState]) -> tuple[int, ...]:
    """Return the input tokens of a plan: the prompt or its chunk, or the newest token of each row of a decode.

    ``rows`` are the sequences of ``plan.request_ids``. Return () for a mixed step, whose parts contain their tokens.
    """
    if isinstance(plan, MixedStep):
        return ()
    if isinstance(plan, PrefillChunk):
        return plan.token_ids
    if isinstance(plan, Prefill):
        return rows[0].request.prompt_token_ids
    return tuple([sequence.tokens[-1].token_id for sequence in rows])


def prefill_inputs(plan: Prefill, prompt_token_ids: Sequence[int], dtype: torch.dtype = torch.float32) -> ModelInputs:
    """Return the tensors of a prefill: left padding, prompt, and right padding to the end of the last block."""
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
    """Return a causal mask ``[1, 1, computed, computed]`` in which no prompt token attends to the left padding.

    ``computed`` is the number of positions, and ``left`` the number of positions that are left padding.
    """
    mask = torch.full((computed, computed), -torch.inf, dtype=dtype).triu_(diagonal=1)
    mask[left:, :left] = -torch.inf
    return mask[None, None]


def decode_inputs(plan: Decode, last_token_ids: Sequence[int]) -> ModelInputs:
    """Return the tensors of a decode. ``last_token_ids`` has the newest token of each of ``plan.request_ids``."""
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
    """Return the tensors of a decode of ``plan`` from three arrays ``[rows]`` and the padded block tables.

    There is one row per request, but two equal rows if there is only one request. ``positions`` has the positions of
    the new tokens, ``left_paddings`` the left padding in tokens, and ``tkvs`` the padded lengths including the new
    tokens. The function uses numpy, because torch takes ten times as long for such small arrays.
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


def with_outputs(inputs: ModelInputs, count: int) -> ModelInputs:
    """Return a copy of ``inputs`` with which the forward returns the logits of ``count`` positions, not only of one.

    The last of the positions is the one to sample from. With ``count`` 1, ``inputs`` itself is returned. A larger
    ``count`` must not be used with a compiled model, whose graphs have a fixed number of outputs.
    """
    if count == 1:
        return inputs
    positions = inputs.input_ids.shape[1]
    sampled = positions - inputs.last_n_tokens + inputs.output_position
    return replace(inputs, last_n_tokens=positions, output_position=sampled)


def pad_block_tables(tables: Sequence[Sequence[int]], width: int) -> list[list[int]]:
    """Return block tables with ``width`` blocks each, padded with the padding block on the left."""
    return [[PADDING_BLOCK] * (width - len(table)) + list(table) for table in tables]
