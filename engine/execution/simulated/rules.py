"""The shape rules of the device, which are checked before every forward.

Each function raises DeviceRefusedError with one sentence that names the violated rule. ``limits`` are the limits that
the device is compiled for.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from engine.backends.errors import DeviceRefusedError
from engine.execution.simulated.program import CompiledFor

BLOCK_SIZE = 64
PADDING_BLOCK = 0
SMALLEST_DECODE_BATCH = 2


def check_dtypes(inputs: Iterable[tuple[str, torch.dtype]]) -> None:
    """Check the dtypes of a graph's inputs (weights, KV cache, mask), given as pairs of name and dtype."""
    for name, dtype in inputs:
        if dtype.is_floating_point and dtype != torch.float16:
            raise DeviceRefusedError(f"tensor {name} is {_plain(dtype)}, but the device computes in float16: cast it")


def check_prefill(rows: int, positions: int, slots: Tensor, limits: CompiledFor) -> None:
    """Check a prefill of ``rows`` prompts with ``positions`` positions; ``slots`` is int64 ``[rows, positions]``."""
    if rows != 1:
        raise DeviceRefusedError(f"this prefill has {rows} prompts, but the device prefills one prompt at a time")
    _check_whole_blocks(f"this prefill has {positions} positions", positions)
    if positions > limits.context:
        raise DeviceRefusedError(_too_long(f"this prefill has {positions} positions", limits))
    _check_written(slots)
    _check_written_whole("prefill", slots)


def check_decode(
    rows: int, slots: Tensor, tkv: Sequence[int], left: Sequence[int], table: Tensor, limits: CompiledFor
) -> None:
    """Check a decode of ``rows`` sequences.

    ``slots`` is int64 ``[rows, 1]``, ``table`` int64 ``[rows, blocks]``. ``tkv`` and ``left`` have one value per row,
    in tokens: the padded length including the new token, and the left padding.
    """
    if rows < SMALLEST_DECODE_BATCH:
        raise DeviceRefusedError(
            f"this decode has one row, but the device needs at least {SMALLEST_DECODE_BATCH}: duplicate the row"
        )
    longest = max(tkv)
    if longest > limits.context:
        raise DeviceRefusedError(_too_long(f"this decode has a tkv of {longest}", limits))
    most = max(limits.batch, SMALLEST_DECODE_BATCH)
    if rows > most:
        raise DeviceRefusedError(f"this decode has {rows} rows, but the device is compiled for at most {most} rows")
    blocks = table.tolist()
    # As in admission, the copy of a lone sequence does not count.
    sequences = len(set(map(tuple, blocks)))
    if sequences * longest > limits.batch_tkv:
        raise DeviceRefusedError(
            f"this decode has {sequences} sequences at tkv {longest}, "
            f"but the device is compiled for a batch x tkv of at most {limits.batch_tkv}"
        )
    _check_table(blocks, longest, left)
    _check_written(slots)


def check_chunk(
    rows: int, slots: Tensor, tkv: Sequence[int], left: Sequence[int], table: Tensor, limits: CompiledFor
) -> None:
    """Check a chunk of a prompt.

    ``slots`` is int64 ``[rows, chunk size]``, ``table`` int64 ``[rows, blocks]``. ``tkv`` and ``left`` have one value
    each, in tokens: the column at which the chunk ends, and the left padding of the prompt. The blocks of the chunk are
    the last blocks of the table. The chunk must write the whole content of each of its blocks: to the block itself, or
    to block 0 if the content of the block was found in the prefix cache.
    """
    if rows != 1:
        raise DeviceRefusedError(f"this chunk has {rows} prompts, but the device prefills one prompt at a time")
    _check_whole_blocks(f"this chunk has {slots.shape[1]} positions", slots.shape[1])
    _check_whole_blocks(f"this chunk ends at column {tkv[0]}", tkv[0])
    if tkv[0] - left[0] > limits.context:
        raise DeviceRefusedError(
            _too_long(f"this chunk ends at column {tkv[0]}, with {left[0]} columns of left padding", limits)
        )
    blocks = table.tolist()
    _check_table(blocks, tkv[0], left)
    _check_written_whole("chunk", slots)
    written = (slots.view(-1, BLOCK_SIZE)[:, 0] // BLOCK_SIZE).tolist()
    own = blocks[0][-len(written) :]
    if any(to not in (block, PADDING_BLOCK) for to, block in zip(written, own, strict=True)):
        raise DeviceRefusedError(
            f"this chunk writes to blocks {written}, but may write only to its own blocks, {own}, or to block 0"
        )


def _check_whole_blocks(what: str, length: int) -> None:
    if length % BLOCK_SIZE:
        raise DeviceRefusedError(f"{what}, but lengths on the device must be whole blocks of {BLOCK_SIZE} tokens")


def _check_table(table: Sequence[Sequence[int]], tkv: int, left: Sequence[int]) -> None:
    """Check that each row of a block table has blocks for ``tkv`` tokens, and that whole blocks of padding are block 0.

    ``left`` has the left padding of each row in tokens. No other block may be block 0.
    """
    wide = -(-tkv // BLOCK_SIZE)
    rule = "the block table is not a rectangle padded with block 0 on the left"
    for row, (blocks, padding) in enumerate(zip(table, left, strict=True)):
        if len(blocks) != wide:
            raise DeviceRefusedError(f"{rule}: row {row} has {len(blocks)} blocks, but a tkv of {tkv} needs {wide}")
        pads = padding // BLOCK_SIZE
        if any(blocks[:pads]) or not all(blocks[pads:]):
            raise DeviceRefusedError(
                f"{rule}: row {row} is {list(blocks)}, but {padding} tokens of left padding require block 0 "
                f"in the first {pads} column(s), and in no other"
            )


def _check_written_whole(what: str, slots: Tensor) -> None:
    starts = slots.view(-1, BLOCK_SIZE)
    if ((starts - starts[:, :1]) != torch.arange(BLOCK_SIZE)).any() or (starts[:, 0] % BLOCK_SIZE).any():
        raise DeviceRefusedError(
            f"the slots of this {what} are not whole blocks, but the device writes whole blocks: "
            f"slots {BLOCK_SIZE} * i to {BLOCK_SIZE} * i + {BLOCK_SIZE - 1} of this {what} must be one block, in order"
        )


def _check_written(slots: Tensor) -> None:
    if (slots < BLOCK_SIZE).any():
        raise DeviceRefusedError(
            f"this step writes to block {PADDING_BLOCK}, which is padding on the device and must not be written"
        )


def _too_long(what: str, limits: CompiledFor) -> str:
    return f"{what}, but the device is compiled for max_model_len {limits.context}"


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
