"""spyre-inference, vLLM's plugin for torch-spyre, with vLLM's own scheduler: arguments with which an engine is started.

Written against its source at commit 4744aed, and not run, because it needs a card. Its platform accepts float16 only
and block sizes that are multiples of 64 tokens (``TorchSpyrePlatform.check_and_update_config``), runs on cards only
(``TorchSpyreWorker`` loads ``torch_spyre``), and keeps vLLM's Scheduler, so steps are read and limits set as without a
plugin. By default it uses the blocks of a full batch, including the null block; here the number is given. With
``schedule_only``, the wrapper of its model (``_SpyreModelWrapper``) passes the replaced forward on to the model.
"""

from importlib.util import find_spec
from typing import Any

from harness.drivers.vllm import token_budget
from harness.drivers.vllm.token_budget import (
    built,
    decision,
    eos_token_id,
    leave_out_the_model,
    observe,
    request_fields,
    shape,
    tighten,
)
from harness.types import EngineSetup

__all__ = [
    "built",
    "decision",
    "engine_arguments",
    "engine_environment",
    "eos_token_id",
    "leave_out_the_model",
    "observe",
    "request_fields",
    "server_command",
    "shape",
    "tighten",
    "unavailable",
]

ON_A_CARD = {"dtype": "float16", "enforce_eager": False}
"""float16 is the only dtype of its platform. The model is compiled, as with ``sendnn`` in general."""


def unavailable(setup: EngineSetup) -> str | None:
    """Return why an engine of that setup can't be started here, or None."""
    if setup.backend != "sendnn":
        return f"backend {setup.backend}: spyre-inference runs on cards only, which is backend sendnn"
    if find_spec("torch_spyre") is None:
        return "backend sendnn needs a Spyre card and torch_spyre, which is not installed here"
    return token_budget.other_rules(setup)


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return arguments of vLLM's LLM."""
    return token_budget.engine_arguments(setup) | ON_A_CARD


def engine_environment(setup: EngineSetup) -> dict[str, str]:  # noqa: ARG001
    """Return no environment variables: its worker is not that of the CPU backend and binds no threads.

    Its platform sets the memory of the cache on the card (``VLLM_CPU_KVCACHE_SPACE``, 4 GiB unless given).
    """
    return {}


def server_command(model: str, setup: EngineSetup) -> list[str]:
    """Return the command of vLLM's server."""
    return token_budget.command_of_server(model, token_budget.common_arguments(setup) | ON_A_CARD)
