"""Set the environment variables that vLLM and the plugin read when they are imported and when an engine starts."""

import os
import socket
import sys
from collections.abc import Mapping

from harness.drivers.vllm.plugins import Plugin
from harness.types import EngineSetup

ALWAYS: Mapping[str, str] = {
    # Run the engine core in this process, because its scheduler and model runner are read after each step.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "MASTER_ADDR": "localhost",
}
DEFAULTS: Mapping[str, str] = {
    # Without this, the plugin uses all cores in every one of xdist's workers.
    "VLLM_SPYRE_UPDATE_THREAD_CONFIG": "0",
    "SENDNN_INFERENCE_UPDATE_THREAD_CONFIG": "0",
    # Without this, small operations outside the model are compiled with a C++ compiler at their first use.
    "SENDNN_INFERENCE_SIMPLE_COMPILE_BACKEND": "eager",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Models are passed to vLLM as local folders, so the hub is not needed.
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
}
OF_AN_ENGINE = "VLLM_DT_"
"""Prefix of variables that a plugin sets when an engine starts. They are removed before the next engine starts."""


def prepare(plugin: Plugin) -> None:
    """Set the variables that must be set before vLLM is imported. Can be called more than once."""
    os.environ.update({**ALWAYS, **plugin.environment})
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def prepare_engine(plugin: Plugin, setup: EngineSetup) -> None:
    """Set the variables that an engine reads when it starts: the options of the setup, and a free port.

    First remove the variables that the plugin set when an earlier engine started.
    """
    prepare(plugin)
    for name in [name for name in os.environ if name.startswith(OF_AN_ENGINE)]:
        del os.environ[name]
    os.environ.update(plugin.adapter.engine_environment(setup))
    if plugin.backend_variable:
        os.environ[plugin.backend_variable] = setup.backend
    os.environ["MASTER_PORT"] = str(free_port())
    settings = sys.modules.get(plugin.settings)
    if settings is not None and hasattr(settings, "clear_env_cache"):  # vllm-spyre 1.0 caches nothing.
        settings.clear_env_cache()


def free_port() -> int:
    """Return a port that is free at the time of the call. The operating system chooses it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
