"""Check whether a model can be divided among processes. This file does not import torch."""

from collections.abc import Mapping
from typing import Any

from engine.config import ConfigError


def check_division(size: int, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError unless ibm-fms can divide a model with this config.json among ``size`` processes.

    ``settings`` is the content of the config.json. Attention is divided by heads, the feed-forward layer and the
    embedding by columns. Key/value heads are divided too, or copied if there are fewer of them than processes.
    """
    heads = settings.get("num_attention_heads")
    for name in ("num_attention_heads", "intermediate_size", "hidden_size"):
        count = settings.get(name)
        if isinstance(count, int) and count % size:
            raise ConfigError(f"tensor_parallel_size {size} does not divide the model's {name} of {count}")
    shared = settings.get("num_key_value_heads") or heads
    if isinstance(shared, int) and shared % size and size % shared:
        raise ConfigError(
            f"tensor_parallel_size {size} neither divides the model's num_key_value_heads of {shared} "
            "nor is a multiple of it"
        )
