"""The runs before the first request: everything that will be compiled is compiled in them."""

from collections.abc import Callable

from engine.backends import sendnn
from engine.backends.compiled import CompiledModel, compiling_for
from engine.config import EngineConfig
from engine.scheduling.padding import BLOCK_SIZE
from engine.scheduling.plan import Decode, Prefill

PREFILL_BLOCKS = 2
DECODE_BLOCKS = 3
ROWS = 2
"""Any values would do but those that torch compiles in, which are 0 and 1: a graph is for all values of them."""


def warm_up(model: CompiledModel, run: Callable[[Prefill | Decode], object], config: EngineConfig) -> None:
    """Compile a prefill and a decode, ``run`` both once more as they will be run, and compile nothing after that.

    ``run`` writes to the first blocks of the cache. Raises RecompileError where the second runs do not fit what the
    first compiled, and DeviceRefusedError.
    """
    plans = warm_up_plans(config.max_model_len)
    device = sendnn.warm_up_mode() if config.backend == sendnn.BACKEND.name else None
    with compiling_for(config.max_model_len, config.max_num_seqs, config.volume_limit):
        if device is None:
            _run_all(plans, run)
        else:
            with device:
                _run_all(plans, run)
    model.seal()
    _run_all(plans, run)


def warm_up_plans(context: int) -> tuple[Prefill | Decode, ...]:
    """A prefill and a decode that fit ``context`` tokens; in a single block there is no room for a decode."""
    blocks = context // BLOCK_SIZE
    prompt = tuple(range(1, min(PREFILL_BLOCKS, blocks) + 1))
    length = len(prompt) * BLOCK_SIZE
    prefill = Prefill("warm-up", length - 1, length, 1, prompt)
    if blocks == 1:
        return (prefill,)
    table = tuple(range(1, min(DECODE_BLOCKS, blocks) + 1))
    tkv = len(table) * BLOCK_SIZE - 1
    return prefill, Decode(("warm-up",) * ROWS, tkv, (0,) * ROWS, (table,) * ROWS)


def _run_all(plans: tuple[Prefill | Decode, ...], run: Callable[[Prefill | Decode], object]) -> None:
    for plan in plans:
        run(plan)
