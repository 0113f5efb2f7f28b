"""Build an engine from a configuration: checkpoint, tokenizer, model, core."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from checkpoints import Checkpoint, check_supported, resolve
from engine.backends import BACKENDS
from engine.backends.compilation import Compilation
from engine.config import ConfigError, EngineConfig
from engine.core import EngineCore, Executor
from engine.grammars import Grammars
from engine.kv_cache.blocks import BLOCK_SIZE
from engine.tensor_parallel.division import check_division
from engine.tensor_parallel.workers import Workers
from engine.tokenizer import Tokenizer


class ModelExecutor(Executor, Protocol):
    """An executor that runs a model."""

    @property
    def compilation(self) -> Compilation | None:
        """Return the summary of what was compiled for the model; None if the backend does not compile."""


@dataclass(frozen=True)
class Engine:
    """An engine core with its model and tokenizer.

    ``workers`` are the worker processes that run the model. With tensor parallel size 1 ``workers`` is None, and the
    model runs in the process that built the engine. ``executor`` is the executor of the core; None if the core runs no
    model.
    """

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    core: EngineCore
    workers: Workers | None = None
    executor: ModelExecutor | None = None

    @property
    def compilation(self) -> Compilation | None:
        """Return the summary of what was compiled for the engine; None if nothing was compiled."""
        return None if self.executor is None else self.executor.compilation

    def close(self) -> None:
        """End the engine's worker processes; no step can run afterwards. Idempotent."""
        if self.workers is not None:
            self.workers.close()


def build_engine(config: EngineConfig) -> Engine:
    """Build the engine that ``config`` describes.

    Raises ConfigError if ``config`` does not fit the model or the free memory; CheckpointError if the model is missing,
    or is of an architecture that ibm-fms would load wrongly without an error; and WorkerDiedError if a worker process
    ends while the engine is built. With a backend that compiles, the warm-up can fail: raises DeviceRefusedError if the
    device does not support its tensors, and RecompileError if one of its steps does not match the graph that was
    compiled for it.
    """
    checkpoint = resolve(config.model, config.revision)
    check_supported(checkpoint)
    settings = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    _check_context(config, checkpoint, settings)
    _check_memory(config, checkpoint, settings)
    check_division(config.tensor_parallel_size, settings)
    with ExitStack() as undo:
        workers = None
        if config.tensor_parallel_size > 1:
            workers = Workers(config)
            undo.callback(workers.close)
        tokenizer = Tokenizer(checkpoint)
        executor = _executor(config, checkpoint, workers)
        core = EngineCore(
            config,
            executor,
            eos_token_ids=tokenizer.eos_token_ids,
            decode_text=tokenizer.decode,
            grammars=Grammars(tokenizer),
        )
        undo.pop_all()
    return Engine(checkpoint, tokenizer, core, workers, executor)


def _executor(config: EngineConfig, checkpoint: Checkpoint, workers: Workers | None) -> ModelExecutor:
    if workers is None:
        from engine.execution.runner import ModelRunner  # torch and ibm-fms take seconds to import

        return ModelRunner(config, checkpoint)
    from engine.tensor_parallel.runner import ParallelRunner

    workers.ready()
    return ParallelRunner(workers, config.seed)


def _check_memory(config: EngineConfig, checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError if the KV cache needs more memory than is free: the system might kill the process later."""
    width = settings.get("head_dim") or settings["hidden_size"] // settings["num_attention_heads"]
    heads = settings.get("num_key_value_heads") or settings["num_attention_heads"]
    layers = settings["num_hidden_layers"]
    needed = config.total_blocks * BLOCK_SIZE * layers * 2 * heads * width * BACKENDS[config.backend].bytes_of_a_number
    free = free_memory()
    if free is not None and needed > free:
        raise ConfigError(
            f"max_num_seqs {config.max_num_seqs} and max_model_len {config.max_model_len} need a KV cache of "
            f"{config.total_blocks:,} blocks, which takes {needed / 1e9:,.1f} GB with model {checkpoint.name}, "
            f"but only {free / 1e9:,.1f} GB of memory are free: reduce max_num_seqs, max_model_len or num_blocks"
        )


def free_memory() -> int | None:
    """Return the bytes of memory available without swapping; None where the system does not report them."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kilobytes is None else int(kilobytes) * 1024


def _check_context(config: EngineConfig, checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError if ``max_model_len`` exceeds the positions of the model, which ibm-fms does not check.

    ibm-fms computes wrong values for tokens beyond ``max_position_embeddings``.
    """
    most = settings.get("max_position_embeddings")
    if isinstance(most, int) and config.max_model_len > most:
        raise ConfigError(
            f"max_model_len {config.max_model_len} exceeds max_position_embeddings {most} of model {checkpoint.name}"
        )
