"""The backend ``sendnn``: a Spyre card if ``torch_sendnn`` is installed, else a simulated device.

The simulated device has the same shape rules as a card.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from engine.backends.backend import Backend

RUNTIME = "torch_sendnn"

CONTEXT = "VLLM_DT_MAX_CONTEXT_LEN"
BATCH = "VLLM_DT_MAX_BATCH_SIZE"
BATCH_TKV = "VLLM_DT_MAX_BATCH_TKV_LIMIT"
"""Names of the environment variables from which the device's compiler reads the limits that it compiles for."""

BACKEND = Backend(
    "sendnn",
    dtype="float16",
    attention=("fms",),
    compiled=True,
    options={"sendnn.dynamic": True},
    shape_rules=(
        "a prefill is one prompt",
        "a decode has at least two rows, and at most as many as the graph was compiled for",
        "lengths are whole blocks",
        "a block table is rectangular: as wide as tkv, padded with block 0 on the left",
        "block 0 is never written",
        "floating-point tensors are float16",
        "batch x tkv is at most the limit that the graph was compiled for",
        "no sequence is longer than max_model_len",
    ),
)


@cache
def simulated() -> bool:
    """Return whether ``sendnn`` is simulated in this environment, because ``torch_sendnn`` is not installed."""
    return find_spec(RUNTIME) is None


def warm_up_mode() -> AbstractContextManager[object]:
    """Return the context manager for the warm-up.

    On a card it is ``torch_sendnn.warmup_mode()``, which collects the compiled graphs, and loads them at the end of the
    ``with`` statement. Without a card the context manager does nothing.
    """
    if simulated():
        return nullcontext()
    context: AbstractContextManager[object] = import_module(RUNTIME).warmup_mode()
    return context
