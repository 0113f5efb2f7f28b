"""Refuse what ibm-fms would load without a word and run wrongly, or not at all.

Most rules were seen to matter: a miniature checkpoint with that setting, loaded by FMS 1.13.1 and by
transformers from one folder, gave other logits without a warning or stopped with a traceback. Other
architectures, dynamic rope scaling and quantisations were not tried one by one; they are refused because nobody
has seen them right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from checkpoints.errors import CheckpointError, one_line
from checkpoints.resolve import Checkpoint

SUPPORTED = ("GraniteForCausalLM", "LlamaForCausalLM")


def check_supported(checkpoint: Checkpoint) -> None:
    """Return if the reference engine is known to load this checkpoint right.

    Reads config.json only. Raises CheckpointError with the first thing that FMS does not do as the
    configuration asks, and why that matters.
    """
    config = _read_config(checkpoint)
    for check in (_architecture, _quantisation, _head_size, _rope, _activation):
        complaint = check(config)
        if complaint is not None:
            raise CheckpointError(f"{checkpoint.name!r} cannot be the reference: {complaint}")


def _read_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    path = checkpoint.path / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read the configuration {str(path)!r}: {one_line(error)}") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"the configuration {str(path)!r} is not a JSON object")
    return config


def _architecture(config: Mapping[str, Any]) -> str | None:
    names = config.get("architectures")
    # FMS looks at the first one only.
    if isinstance(names, list) and names and names[0] in SUPPORTED:
        return None
    said = names[0] if isinstance(names, list) and names else names
    return f"its architecture is {said!r} and only {' and '.join(SUPPORTED)} are known to load right"


def _quantisation(config: Mapping[str, Any]) -> str | None:
    if not config.get("quantization_config"):
        return None
    return "it has a quantization_config, and the reference loads plain floating-point weights only"


def _head_size(config: Mapping[str, Any]) -> str | None:
    if "head_dim" not in config:
        return None
    size = config["head_dim"]
    llama = config["architectures"][0] == "LlamaForCausalLM"
    if size is None and llama:
        return None
    if size is None:
        return "head_dim is null, which a granite in FMS cannot do arithmetic with: leave the key out"
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if not (isinstance(size, int) and isinstance(hidden, int) and isinstance(heads, int) and heads > 0):
        return (
            f"head_dim is {size!r} but hidden_size ({hidden!r}) and num_attention_heads ({heads!r})"
            " do not tell whether that is their quotient"
        )
    if size * heads == hidden:
        return None
    what_happens = "refuses such weights" if llama else "reorders the query and key weights wrongly, without a word,"
    return (
        f"head_dim is {size} but hidden_size / num_attention_heads is {hidden / heads:g},"
        f" and FMS {what_happens} unless the two are equal"
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
                    f"{key} asks for {kind!r} rotary scaling, which FMS drops without a word,"
                    " so every position would be rotated wrongly"
                )
    return None


def _rope_types(value: Mapping[str, Any]) -> Iterator[object]:
    """The rope type of an entry, and of the entries in it: some models have one for each kind of layer."""
    yield value.get("rope_type") or value.get("type") or "default"
    for inner in value.values():
        if isinstance(inner, dict):
            yield from _rope_types(inner)


def _activation(config: Mapping[str, Any]) -> str | None:
    name = config.get("hidden_act", "silu")
    if config["architectures"][0] != "LlamaForCausalLM" or name in ("silu", "swish"):
        return None
    return f"hidden_act is {name!r}, and FMS runs every llama with silu without a word"
