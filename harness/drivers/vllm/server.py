"""Start vLLM's server with the installed plugin and with the limits of a case."""

import os

from harness.drivers.base import UnavailableError
from harness.drivers.servers import ServerProcess, environ_of_a_server
from harness.drivers.vllm.checkpoint import checked
from harness.drivers.vllm.environment import DEFAULTS, free_port
from harness.drivers.vllm.plugins import Plugin, described, find_plugin, why_none
from harness.drivers.vllm.versions import version_of
from harness.suites.schema import Scheduler, ServerOptions
from harness.types import EngineSetup, SchedulingLimits

NOT_IN_VLLM = ("max_queue", "max_body_bytes", "drain_seconds")
"""Names of the server options of a case that ``vllm serve`` does not have."""
BATCH_TKV = "VLLM_DT_MAX_BATCH_TKV_LIMIT"


def vllm_describe() -> str:
    """Return the name of the engine and the versions of its packages, for reports."""
    plugin = find_plugin()
    return f"vllm serve, {described(plugin)}" if plugin is not None else "vllm serve"


def vllm_scheduler() -> Scheduler:
    """Return the name of the scheduler that vLLM's server has with the installed plugin."""
    plugin = find_plugin()
    return plugin.scheduler if plugin is not None else "continuous"


def vllm_unavailable(setup: EngineSetup) -> str | None:
    """Return why ``vllm serve`` can't be started with this setup, as one sentence. Return None if it can."""
    plugin = find_plugin()
    if plugin is None:
        return why_none()
    if reason := plugin.unavailable(setup):
        return reason
    cores = os.cpu_count() or 1
    if setup.backend != "sendnn" and setup.tensor_parallel_size > cores:
        return f"tensor_parallel_size {setup.tensor_parallel_size} needs as many cores, but there are {cores}"
    return None


def vllm_unfit(options: ServerOptions) -> str | None:
    """Return why ``vllm serve`` can't run a case with these server options, as one sentence. Return None if it can."""
    wanted = [name for name in NOT_IN_VLLM if getattr(options, name) is not None]
    return f"the case needs a server with {', '.join(wanted)}, but vllm serve has no such option" if wanted else None


def vllm_server(setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions) -> ServerProcess:
    """Start ``vllm serve`` with these limits and options.

    Raises UnavailableError if vLLM is not installed or does not start, and CheckpointError if the model can't be used.
    """
    plugin = find_plugin()
    if plugin is None:
        raise UnavailableError(why_none())
    path = checked(setup.model, version_of("transformers")).path
    port = free_port()
    command = [*plugin.adapter.server_command(str(path), setup), *_flags(plugin, setup, limits, options, port)]
    return ServerProcess(command, f"http://127.0.0.1:{port}", _environ(plugin, setup, limits))


def _flags(
    plugin: Plugin, setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions, port: int
) -> list[str]:
    blocks = limits.available_blocks
    flags = {
        "--served-model-name": setup.model,
        "--host": "127.0.0.1",
        "--port": port,
        "--max-model-len": limits.max_model_len,
        "--max-num-seqs": limits.max_num_seqs,
        "--num-gpu-blocks-override": None if blocks is None else plugin.blocks_in_all(blocks, limits.max_num_seqs),
        "--tensor-parallel-size": setup.tensor_parallel_size,
        "--api-key": options.api_key,
        "--logits-processors": plugin.injector,
    }
    return [str(part) for flag, value in flags.items() if value is not None for part in (flag, value)]


def _environ(plugin: Plugin, setup: EngineSetup, limits: SchedulingLimits) -> dict[str, str]:
    batch_tkv = limits.max_batch_tkv_limit
    return {
        **DEFAULTS,
        **environ_of_a_server(),
        **plugin.environment,
        **plugin.adapter.engine_environment(setup),
        **({plugin.backend_variable: setup.backend} if plugin.backend_variable else {}),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(free_port()),
        **({} if batch_tkv is None else {BATCH_TKV: str(batch_tkv)}),
    }
