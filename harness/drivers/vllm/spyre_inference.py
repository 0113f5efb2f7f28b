"""The adapter for spyre-inference, vLLM's plugin for torch-spyre, which uses vLLM's own scheduler.

The adapter was written from the plugin's source at commit 4744aed. It was never run, because it needs a card. The
plugin accepts only float16 and block sizes that are multiples of 64 tokens
(``TorchSpyrePlatform.check_and_update_config``), and runs only on cards (``TorchSpyreWorker`` loads ``torch_spyre``).
It uses vLLM's Scheduler, so steps are read and limits are set as in vLLM without a plugin. The number of blocks is
passed explicitly, because the plugin's default does not add a block for vLLM's null block. With ``schedule_only``, the
plugin's wrapper of the model (``_SpyreModelWrapper``) calls the replaced forward.
"""

from importlib.util import find_spec
from typing import Any

from harness.drivers.vllm import token_budget
from harness.drivers.vllm.token_budget import (
    built,
    decision,
    leave_out_the_model,
    observe,
    shape,
    tighten,
)
from harness.types import EngineSetup

__all__ = [
    "built",
    "decision",
    "engine_arguments",
    "engine_environment",
    "leave_out_the_model",
    "observe",
    "server_command",
    "shape",
    "tighten",
    "unavailable",
]

ON_A_CARD = {"dtype": "float16", "enforce_eager": False}
"""float16 is the only dtype that the plugin accepts. The model is compiled, as always with the backend sendnn."""


def unavailable(setup: EngineSetup) -> str | None:
    """Return why an engine with this setup can't be started here, as one sentence. Return None if it can."""
    if setup.backend != "sendnn":
        return f"backend {setup.backend}: spyre-inference runs on cards only, so it needs backend sendnn"
    if find_spec("torch_spyre") is None:
        return "backend sendnn needs a Spyre card and torch_spyre, but torch_spyre is not installed"
    return token_budget.other_rules(setup)


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:
    """Return the arguments of vLLM's LLM for this plugin."""
    return token_budget.engine_arguments(setup) | ON_A_CARD


def engine_environment(setup: EngineSetup) -> dict[str, str]:  # noqa: ARG001
    """Return {}: no variables are needed, because the plugin does not use the worker of vLLM's CPU backend.

    The plugin itself sets the memory of the KV cache on the card (``VLLM_CPU_KVCACHE_SPACE``, by default 4 GiB).
    """
    return {}


def server_command(model: str, setup: EngineSetup) -> list[str]:
    """Return the command that starts vLLM's server."""
    return token_budget.command_of_server(model, token_budget.common_arguments(setup) | ON_A_CARD)
