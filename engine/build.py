"""From a configuration to an engine that can run: checkpoint, tokenizer, model, core."""

from dataclasses import dataclass

from checkpoints import Checkpoint, check_supported, resolve
from engine.config import EngineConfig
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
    tokenizer = Tokenizer(checkpoint)
    core = EngineCore(
        config,
        ModelRunner(config, checkpoint),
        eos_token_ids=tokenizer.eos_token_ids,
        decode_text=tokenizer.decode,
    )
    return Engine(checkpoint, tokenizer, core)
