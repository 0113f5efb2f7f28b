"""spyre-inference, vLLM's plugin for torch-spyre: vLLM's own scheduler, and what an engine of it is started with.

Written against its source at commit 4744aed, and not run: it needs a card. Its platform takes float16 only and blocks
of a multiple of 64 tokens (``TorchSpyrePlatform.check_and_update_config``), runs on cards only (``TorchSpyreWorker``
loads ``torch_spyre``), and keeps vLLM's Scheduler, so steps are read and limits tightened as without a plugin. Where
the number of blocks is not given, it takes those of a full batch, the null block among them: here it is given.
"""

from importlib.util import find_spec
from typing import Any

from harness.drivers.vllm import token_budget
from harness.drivers.vllm.token_budget import (
    built,
    decision,
    end_of_text,
    engine_environment,
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
    "end_of_text",
    "engine_arguments",
    "engine_environment",
    "leave_out_the_model",
    "observe",
    "request_fields",
    "server_command",
    "shape",
    "tighten",
    "unavailable",
]

ON_A_CARD = {"dtype": "float16", "enforce_eager": False}
"""float16 is what its platform takes; the model is compiled, as ``sendnn`` means everywhere."""


def unavailable(setup: EngineSetup) -> str | None:
    """Why no engine of that setup starts here, or None."""
    if setup.backend != "sendnn":
        return f"backend {setup.backend}: spyre-inference runs on cards only, which is backend sendnn"
    if find_spec("torch_spyre") is None:
        return "backend sendnn needs a Spyre card and torch_spyre, which is not installed here"
    return token_budget.other_rules(setup)


def engine_arguments(setup: EngineSetup) -> dict[str, Any]:
    """What vLLM's LLM is started with."""
    return token_budget.engine_arguments(setup) | ON_A_CARD


def server_command(model: str, setup: EngineSetup) -> list[str]:
    """vLLM's server for it."""
    return token_budget.command_of_server(model, token_budget.common_arguments(setup) | ON_A_CARD)
