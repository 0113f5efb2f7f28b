"""The warm-up: forwards that run before the first request and compile every graph of the engine."""

from collections.abc import Callable, Mapping

from engine.backends import sendnn
from engine.config import EngineConfig
from engine.execution.compiled import CompiledModel, compiling_for
from engine.kv_cache.blocks import BLOCK_SIZE
from engine.scheduling.plan import AlignedDecode, Decode, MixedStep, Part, Prefill, PrefillChunk, Runnable

PREFILL_BLOCKS = 2
DECODE_BLOCKS = 3
ROWS = 2
"""The number of rows of a decode in the warm-up. It must not be 0 or 1, which torch would compile as a constant."""


def warm_up(model: CompiledModel, run: Callable[[Runnable], object], config: EngineConfig) -> None:
    """Run the warm-up plans of the engine's scheduler to compile graphs, then forbid ``model`` to compile more.

    The plans are then run again, which must not need another graph. ``run`` is a function that runs a plan. The plans
    write to the first blocks of the KV cache. Raises DeviceRefusedError if the device does not support a plan, and
    RecompileError if a plan does not match the graph that was compiled for it.
    """
    plans = PLANS[config.scheduler](config)
    device = sendnn.warm_up_mode() if config.backend == sendnn.BACKEND.name else None
    with compiling_for(config.max_model_len, config.max_num_seqs, config.batch_tkv_limit):
        if device is None:
            _run_all(plans, run)
        else:
            with device:
                _run_all(plans, run)
    model.seal()
    _run_all(plans, run)


def warm_up_plans(context: int) -> tuple[Runnable, ...]:
    """Return the warm-up plans of the continuous scheduler: a prefill and a decode that fit in ``context`` tokens.

    If ``context`` is a single block, only the prefill is returned.
    """
    blocks = context // BLOCK_SIZE
    prompt = _first_blocks(min(PREFILL_BLOCKS, blocks))
    length = len(prompt) * BLOCK_SIZE
    prefill = Prefill("warm-up", length - 1, length, 1, prompt)
    if blocks == 1:
        return (prefill,)
    table = _first_blocks(min(DECODE_BLOCKS, blocks))
    tkv = len(table) * BLOCK_SIZE - 1
    return prefill, Decode(("warm-up",) * ROWS, tkv, (0,) * ROWS, (table,) * ROWS)


def chunked_plans(context: int, chunk_size: int) -> tuple[Runnable, ...]:
    """Return the warm-up plans of the chunked scheduler: a chunk and a decode that fit in ``context`` tokens.

    If ``context`` is a single block, only the chunk is returned. The chunk is the second one of a prompt if the context
    has room for two chunks. Otherwise it is the first one, with as much left padding as a prompt of ``context`` tokens
    has.
    """
    room, size = context // BLOCK_SIZE, chunk_size // BLOCK_SIZE
    number = 1 if 2 * size <= room else 0
    padding = max(0, size - room)
    blocks = _first_blocks((number + 1) * size - padding)
    token_ids = (0,) * (chunk_size - padding * BLOCK_SIZE)
    start = number * chunk_size
    chunk = PrefillChunk(
        "warm-up", number, chunk_size, padding * BLOCK_SIZE, start, token_ids, blocks, hit_blocks=0, is_last=False
    )
    if room == 1:
        return (chunk,)
    table = _first_blocks(min(DECODE_BLOCKS, room))
    tkv = len(table) * BLOCK_SIZE
    return chunk, AlignedDecode(("warm-up",) * ROWS, (tkv - 1,) * ROWS, (tkv,) * ROWS, (table,) * ROWS)


def mixed_plan(context: int, block_size: int) -> MixedStep:
    """Return the warm-up plan of the token-budget scheduler: a mixed step that fits in ``context`` tokens.

    It has two decodes and a chunk of a prompt.
    """
    room = -(-context // block_size)
    table = _first_blocks(min(DECODE_BLOCKS, room))
    last = min(len(table) * block_size, context) - 1
    decodes = [Part(f"warm-up-{i}", last, (0,), (), table, is_decode=True, yields_token=True) for i in range(ROWS)]
    start = block_size if room > 1 else 0
    part = Part("warm-up", start, (0,) * (last - start), (), table, is_decode=False, yields_token=True)
    return MixedStep((*decodes, part), (), ())


PLANS: Mapping[str, Callable[[EngineConfig], tuple[Runnable, ...]]] = {
    "continuous": lambda config: warm_up_plans(config.max_model_len),
    "static": lambda config: warm_up_plans(config.max_model_len),
    "chunked": lambda config: chunked_plans(config.max_model_len, config.chunking.chunk_size),
    "token_budget": lambda config: (mixed_plan(config.max_model_len, config.tokens_in_a_block),),
}
"""The plans of the warm-up by scheduler. Together they have every kind of forward that the scheduler's steps have."""


def _first_blocks(count: int) -> tuple[int, ...]:
    return tuple(range(1, count + 1))


def _run_all(plans: tuple[Runnable, ...], run: Callable[[Runnable], object]) -> None:
    for plan in plans:
        run(plan)
