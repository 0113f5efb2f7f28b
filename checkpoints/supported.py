"""Refuse checkpoints that ibm-fms would load wrongly without an error, or would not load at all.

Most rules were found by experiment. A small checkpoint with the setting in question was loaded by ibm-fms 1.13.1 and by
transformers; their logits differed without a warning, or ibm-fms raised an exception. Other architectures, dynamic rope
scaling and quantisations were not tested individually: they are refused because they are not known to work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from checkpoints.configuration import SUPPORTED, read_config
from checkpoints.errors import CheckpointError
from checkpoints.resolve import Checkpoint

_NEEDED = ("hidden_size", "num_attention_heads", "num_hidden_layers")
"""The fields from which the engine computes the size of its KV cache before it loads the model."""


def check_supported(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError unless the reference engine is known to load this checkpoint correctly.

    Only config.json is read. The message names the first setting that ibm-fms does not support, and its consequence.
    """
    config = read_config(checkpoint.path / "config.json")
    for check in (_architecture, _quantisation, _head_size, _rope, _activation, _needed):
        complaint = check(config)
        if complaint is not None:
            raise CheckpointError(f"{checkpoint.name!r} cannot run on the reference engine: {complaint}")


def _architecture(config: Mapping[str, Any]) -> str | None:
    names = config.get("architectures")
    # ibm-fms uses the first one only.
    if isinstance(names, list) and names and names[0] in SUPPORTED:
        return None
    name = names[0] if isinstance(names, list) and names else names
    return f"its architecture is {name!r}, but only {' and '.join(SUPPORTED)} are known to load correctly"


def _quantisation(config: Mapping[str, Any]) -> str | None:
    if not config.get("quantization_config"):
        return None
    return "it has a quantization_config, and the reference engine loads plain floating-point weights only"


def _head_size(config: Mapping[str, Any]) -> str | None:
    if "head_dim" not in config:
        return None
    size = config["head_dim"]
    llama = config["architectures"][0] == "LlamaForCausalLM"
    if size is None and llama:
        return None
    if size is None:
        return "head_dim is null, which ibm-fms does not support for granite: leave the key out"
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if not (isinstance(size, int) and isinstance(hidden, int) and isinstance(heads, int) and heads > 0):
        return (
            f"head_dim is {size!r}, which cannot be compared with hidden_size ({hidden!r}) and"
            f" num_attention_heads ({heads!r})"
        )
    if size * heads == hidden:
        return None
    what_happens = "refuses such weights" if llama else "reorders the query and key weights wrongly without an error"
    return (
        f"head_dim is {size} but hidden_size / num_attention_heads is {hidden / heads:g},"
        f" and ibm-fms {what_happens} unless the two are equal"
    )


def _rope(config: Mapping[str, Any]) -> str | None:
    for key in ("rope_scaling", "rope_parameters"):
        value = config.get(key)
        if value is None:
            continue
        if not isinstance(value, dict):
            return f"{key} is {value!r} where a JSON object is expected"
        for kind in _rope_types(value):
            if kind != "default":
                return (
                    f"{key} has {kind!r} rotary scaling, which ibm-fms silently ignores,"
                    " so every position would be rotated wrong"
                )
    return None


def _rope_types(value: Mapping[str, Any]) -> Iterator[object]:
    """Yield the rope types in ``value``, an entry of config.json about rotary embeddings, and in its nested entries.

    Some models have a nested entry for each kind of layer.
    """
    yield value.get("rope_type") or value.get("type") or "default"
    for inner in value.values():
        if isinstance(inner, dict):
            yield from _rope_types(inner)


def _activation(config: Mapping[str, Any]) -> str | None:
    name = config.get("hidden_act", "silu")
    if config["architectures"][0] != "LlamaForCausalLM" or name in ("silu", "swish"):
        return None
    return f"hidden_act is {name!r}, but ibm-fms silently runs every llama with silu"


def _needed(config: Mapping[str, Any]) -> str | None:
    missing = [name for name in _NEEDED if name not in config]
    return f"its config.json has no {missing[0]}" if missing else None
