"""The rules of the device, checked before every run, each with its message. Limits are those it was compiled for."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from engine.backends.errors import DeviceRefusedError
from engine.execution.simulated.program import CompiledFor

BLOCK_SIZE = 64
PADDING_BLOCK = 0
SMALLEST_DECODE_BATCH = 2


def check_dtypes(inputs: Iterable[tuple[str, torch.dtype]]) -> None:
    """Check the dtypes of a graph's weights, cache and mask, given by name."""
    for name, dtype in inputs:
        if dtype.is_floating_point and dtype != torch.float16:
            raise DeviceRefusedError(f"the device computes in float16, and {name} is {_plain(dtype)}")


def check_prefill(rows: int, positions: int, slots: Tensor, limits: CompiledFor) -> None:
    """Check a prefill: ``slots`` is int64 ``[rows, positions]``."""
    if rows != 1:
        raise DeviceRefusedError(f"the device prefills one prompt at a time, and this prefill has {rows}")
    _check_whole_blocks("this prefill has", positions)
    if positions > limits.context:
        raise DeviceRefusedError(_too_long(f"this prefill has {positions} positions", limits))
    _check_written(slots)
    _check_written_whole("prefill", slots)


def check_decode(
    rows: int, slots: Tensor, tkv: Sequence[int], left: Sequence[int], table: Tensor, limits: CompiledFor
) -> None:
    """Check a decode: ``tkv`` (with the new token) and ``left`` padding by row, ``table`` int64 ``[rows, blocks]``."""
    if rows < SMALLEST_DECODE_BATCH:
        raise DeviceRefusedError("the device has no decode of one row: a lone sequence is doubled")
    longest = max(tkv)
    if longest > limits.context:
        raise DeviceRefusedError(_too_long(f"this decode has a tkv of {longest}", limits))
    most = max(limits.batch, SMALLEST_DECODE_BATCH)
    if rows > most:
        raise DeviceRefusedError(f"the device is compiled for {most} rows at most, and this decode has {rows}")
    blocks = table.tolist()
    # The copy of a lone sequence does not count: admission does not count it either.
    sequences = len(set(map(tuple, blocks)))
    if sequences * longest > limits.batch_tkv:
        raise DeviceRefusedError(
            f"batch x tkv may be {limits.batch_tkv} on the device, "
            f"and this decode has {sequences} sequences x {longest}"
        )
    _check_table(blocks, longest, left)
    _check_written(slots)


def check_chunk(
    rows: int, slots: Tensor, tkv: Sequence[int], left: Sequence[int], table: Tensor, limits: CompiledFor
) -> None:
    """Check a chunk of a prompt: ``slots`` int64 ``[rows, chunk]``, ``tkv`` the chunk's end, ``left`` padding.

    Its blocks are the last ones of the table. Each is written whole: to its own slots, or, where its content is in the
    cache already, to block 0, which is never read.
    """
    if rows != 1:
        raise DeviceRefusedError(f"the device prefills one prompt at a time, and this chunk is of {rows}")
    _check_whole_blocks("this chunk has", slots.shape[1])
    _check_whole_blocks("this chunk ends at", tkv[0])
    if tkv[0] - left[0] > limits.context:
        raise DeviceRefusedError(_too_long(f"this chunk ends at {tkv[0]}, {left[0]} of it padding", limits))
    blocks = table.tolist()
    _check_table(blocks, tkv[0], left)
    _check_written_whole("chunk", slots)
    written = (slots.view(-1, BLOCK_SIZE)[:, 0] // BLOCK_SIZE).tolist()
    own = blocks[0][-len(written) :]
    if any(to not in (block, PADDING_BLOCK) for to, block in zip(written, own, strict=True)):
        raise DeviceRefusedError(f"a chunk is written to its own blocks {own}, and this one to {written}")


def _check_whole_blocks(what: str, positions: int) -> None:
    if positions % BLOCK_SIZE:
        raise DeviceRefusedError(
            f"lengths on the device are whole blocks of {BLOCK_SIZE} tokens, and {what} {positions}"
        )


def _check_table(table: Sequence[Sequence[int]], tkv: int, left: Sequence[int]) -> None:
    """Check that every row is as wide as tkv, with block 0 for blocks of padding and nowhere else."""
    wide = -(-tkv // BLOCK_SIZE)
    rule = "the block table is not a rectangle padded with block 0 on the left"
    for row, (blocks, padding) in enumerate(zip(table, left, strict=True)):
        if len(blocks) != wide:
            raise DeviceRefusedError(f"{rule}: it has {len(blocks)} columns, and a tkv of {tkv} takes {wide}")
        pads = padding // BLOCK_SIZE
        if any(blocks[:pads]) or not all(blocks[pads:]):
            raise DeviceRefusedError(f"{rule}: row {row} is {list(blocks)}, of which {pads} are padding")


def _check_written_whole(what: str, slots: Tensor) -> None:
    starts = slots.view(-1, BLOCK_SIZE)
    if ((starts - starts[:, :1]) != torch.arange(BLOCK_SIZE)).any() or (starts[:, 0] % BLOCK_SIZE).any():
        raise DeviceRefusedError(f"the device writes a {what} block by block, and these slots are not whole blocks")


def _check_written(slots: Tensor) -> None:
    if (slots < BLOCK_SIZE).any():
        raise DeviceRefusedError(f"block {PADDING_BLOCK} is padding on the device, and this step writes to it")


def _too_long(what: str, limits: CompiledFor) -> str:
    return f"nothing on the device may be longer than max_model_len {limits.context}, and {what}"


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
