"""From a configuration to an engine that can run: checkpoint, tokenizer, model, core."""

import json
from dataclasses import dataclass

from checkpoints import Checkpoint, check_supported, resolve
from engine.config import ConfigError, EngineConfig
from engine.core import EngineCore
from engine.tokenizer import Tokenizer


@dataclass(frozen=True)
class Engine:
    """A core with the model it runs and the tokenizer of that model."""

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    core: EngineCore


def build_engine(config: EngineConfig) -> Engine:
    """Load what ``config`` names.

    Raises ConfigError, and CheckpointError where the model is missing or of a kind that ibm-fms would load
    wrong without a word.
    """
    from engine.model_runner import ModelRunner  # torch and ibm-fms take seconds to import

    checkpoint = resolve(config.model, config.revision)
    check_supported(checkpoint)
    _check_context(config, checkpoint)
    tokenizer = Tokenizer(checkpoint)
    core = EngineCore(
        config,
        ModelRunner(config, checkpoint),
        eos_token_ids=tokenizer.eos_token_ids,
        decode_text=tokenizer.decode,
    )
    return Engine(checkpoint, tokenizer, core)


def _check_context(config: EngineConfig, checkpoint: Checkpoint) -> None:
    """A model knows only so many positions; beyond them ibm-fms computes on, and wrongly."""
    settings = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    most = settings.get("max_position_embeddings")
    if isinstance(most, int) and config.max_model_len > most:
        raise ConfigError(f"max_model_len {config.max_model_len} is more than the {most} of model {checkpoint.name}")
