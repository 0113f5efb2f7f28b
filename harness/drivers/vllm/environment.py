"""What vLLM and the plugin read from the environment, set before they are imported and between two engines."""

import os
import socket
import sys
from collections.abc import Mapping

from harness.drivers.vllm.plugins import Plugin
from harness.types import EngineSetup

ALWAYS: Mapping[str, str] = {
    # The engine core lives in this process: its scheduler and model runner are looked at after each step.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "MASTER_ADDR": "localhost",
}
UNLESS_SAID: Mapping[str, str] = {
    # Otherwise the plugin takes all cores for every worker of a parallel run.
    "VLLM_SPYRE_UPDATE_THREAD_CONFIG": "0",
    "SENDNN_INFERENCE_UPDATE_THREAD_CONFIG": "0",
    # Otherwise small operations beside the model are compiled, with a C++ compiler, at the first step that has them.
    "SENDNN_INFERENCE_SIMPLE_COMPILE_BACKEND": "eager",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Models are folders by the time vLLM sees them.
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
}
OF_AN_ENGINE = "VLLM_DT_"
"""Variables that begin so are written by an engine as it starts; the next one would take them for a user's."""


def prepare(plugin: Plugin) -> None:
    """Set what must be there before vLLM is imported. Again does no harm."""
    os.environ.update({**ALWAYS, **plugin.environment})
    for name, value in UNLESS_SAID.items():
        os.environ.setdefault(name, value)


def prepare_engine(plugin: Plugin, setup: EngineSetup) -> None:
    """Set what an engine reads as it starts: its options, a port that is free, nothing of the engine before."""
    prepare(plugin)
    for name in [name for name in os.environ if name.startswith(OF_AN_ENGINE)]:
        del os.environ[name]
    os.environ.update(plugin.adapter.engine_environment(setup))
    if plugin.backend_variable:
        os.environ[plugin.backend_variable] = setup.backend
    os.environ["MASTER_PORT"] = str(free_port())
    settings = sys.modules.get(plugin.settings)
    if settings is not None:
        settings.clear_env_cache()


def free_port() -> int:
    """A port that nobody listens on: the system gives out another one each time, to every process of a run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
