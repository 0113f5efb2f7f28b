"""Spyre: the card where ``torch_sendnn`` is installed, else a simulated device with the same shape rules."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from engine.backends.backend import Backend

RUNTIME = "torch_sendnn"

CONTEXT = "VLLM_DT_MAX_CONTEXT_LEN"
BATCH = "VLLM_DT_MAX_BATCH_SIZE"
BATCH_TKV = "VLLM_DT_MAX_BATCH_TKV_LIMIT"
"""Environment variables with the limits that the device's compiler compiles for; it reads them while it compiles."""

BACKEND = Backend(
    "sendnn",
    dtype="float16",
    attention=("fms",),
    compiled=True,
    options={"sendnn.dynamic": True},
    shape_rules=(
        "a prefill is one prompt",
        "a decode has at least two rows, and at most as many as was compiled for",
        "lengths are whole blocks",
        "a block table is rectangular: as wide as tkv, padded with block 0 on the left",
        "block 0 is never written",
        "numbers with a fraction are float16",
        "batch x tkv is at most what was compiled for",
        "nothing is longer than max_model_len",
    ),
)


@cache
def simulated() -> bool:
    """Return whether ``sendnn`` is the simulated device here."""
    return find_spec(RUNTIME) is None


def warm_up_mode() -> AbstractContextManager[object]:
    """Return the context manager for compiling runs, in which a card's runtime collects graphs to load at its end."""
    if simulated():
        return nullcontext()
    context: AbstractContextManager[object] = import_module(RUNTIME).warmup_mode()
    return context
