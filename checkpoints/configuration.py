"""Read a config.json, and check the values that the engine and the reference outputs use.

Only the fields of Granite and Llama models are known, so the values of other models are not checked. A field that is
missing has a default in transformers, and a field that nothing uses may have any value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from checkpoints.errors import CheckpointError, one_line

SUPPORTED = ("GraniteForCausalLM", "LlamaForCausalLM")
ACTIVATIONS = ("gelu", "gelu_pytorch_tanh", "mish", "relu", "sigmoid", "silu", "swish", "tanh")
"""The activation functions that both ibm-fms and transformers have under the same name."""

DTYPES = ("bfloat16", "double", "float", "float16", "float32", "float64", "half")
MOST = 2**31 - 1
LARGEST = 3.4e38
"""The largest number, rounded down, that float32 can represent."""

# Each check returns how a wrong value must be, as the end of "must be ...", and None for a right value.
Check = Callable[[object], str | None]


def read_config(path: Path) -> Mapping[str, Any]:
    """Return the content of the config.json at ``path``.

    Raises CheckpointError if it cannot be read or is not a JSON object.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read the configuration {str(path)!r}: {one_line(error)}") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"the configuration {str(path)!r} is not a JSON object")
    return config


def is_known(config: Mapping[str, Any]) -> bool:
    """Return whether ``config``, the content of a config.json, is of an architecture whose fields are known here."""
    names = config.get("architectures")
    return isinstance(names, list) and bool(names) and names[0] in SUPPORTED


def check_values(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError for the first value in ``config`` with which no model can be built.

    ``config`` is the content of the config.json in ``folder``. The EOS token ids in generation_config.json are checked
    too. The values of an architecture that is not known here are not checked.
    """
    if not is_known(config):
        return
    path = folder / "config.json"
    for name, check in _CHECKS.items():
        if name in config:
            _require(path, name, config[name], check)
    nested = config.get("rope_parameters")
    if isinstance(nested, dict) and "rope_theta" in nested:
        _require(path, "rope_parameters.rope_theta", nested["rope_theta"], _number_above_0)
    for complaint in _disagreements(config):
        raise CheckpointError(f"{path}: {complaint}")
    _check_eos(path, config, config.get("vocab_size"))
    generation = folder / "generation_config.json"
    if generation.is_file():
        _check_eos(generation, read_config(generation), config.get("vocab_size"))


def head_size(config: Mapping[str, Any]) -> int | None:
    """Return the size of an attention head, whose default follows from other fields; None if they are missing."""
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    default = None if hidden is None or heads is None else hidden // heads
    return config.get("head_dim") or default


def _require(path: Path, name: str, value: object, check: Check) -> None:
    wanted = check(value)
    if wanted is not None:
        raise CheckpointError(f"{path}: {name} must be {wanted}, not {_shown(value)}")


def _shown(value: object) -> str:
    """Return ``value`` as JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(value: object) -> str | None:
    if not _is_whole(value) or value < 1:
        return "a whole number of at least 1"
    return None if value <= MOST else f"a whole number of at most {MOST}"


def _count_or_null(value: object) -> str | None:
    return None if value is None else _count(value)


def _number(value: object) -> str | None:
    """Accept a finite number that float32 can represent."""
    right = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    return None if right else "a finite number that fits in float32"


def _number_of_at_least_0(value: object) -> str | None:
    return _number(value) or (None if isinstance(value, int | float) and value >= 0 else "a number of at least 0")


def _number_above_0(value: object) -> str | None:
    return _number(value) or (None if isinstance(value, int | float) and value > 0 else "a number above 0")


def _number_above_0_or_null(value: object) -> str | None:
    return None if value is None else _number_above_0(value)


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _activation(value: object) -> str | None:
    return None if value in ACTIVATIONS else f"one of {', '.join(ACTIVATIONS)}"


def _dtype(value: object) -> str | None:
    return None if value is None or value in DTYPES else f"one of {', '.join(DTYPES)}"


_CHECKS: Mapping[str, Check] = {
    "vocab_size": _count,
    "hidden_size": _count,
    "intermediate_size": _count,
    "num_hidden_layers": _count,
    "num_attention_heads": _count,
    "num_key_value_heads": _count_or_null,
    "head_dim": _count_or_null,
    "max_position_embeddings": _count,
    "rms_norm_eps": _number_of_at_least_0,
    "rope_theta": _number_above_0_or_null,
    "attention_multiplier": _number,
    "embedding_multiplier": _number,
    "residual_multiplier": _number,
    "logits_scaling": _number_above_0,
    "tie_word_embeddings": _flag,
    "attention_bias": _flag,
    "mlp_bias": _flag,
    "hidden_act": _activation,
    "dtype": _dtype,
    "torch_dtype": _dtype,
}


def _disagreements(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with values that are right on their own, as sentences without the file."""
    hidden, heads, shared = (config.get(n) for n in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    if config.get("head_dim") is None and hidden is not None and heads is not None and hidden % heads:
        yield f"hidden_size must be a multiple of num_attention_heads, but {hidden} is no multiple of {heads}"
    if heads is not None and shared is not None and heads % shared:
        yield f"num_attention_heads must be a multiple of num_key_value_heads, but {heads} is no multiple of {shared}"
    size = head_size(config)
    if size is not None and size % 2:
        yield f"the size of a head must be even for the rotary embedding, but it is {size}"


def _check_eos(path: Path, config: Mapping[str, Any], vocabulary: object) -> None:
    """Check the EOS token ids in a file. ``vocabulary`` is the number of tokens of the model, None if not given."""
    eos = config.get("eos_token_id")
    for token_id in eos if isinstance(eos, list) else [] if eos is None else [eos]:
        if not _is_whole(token_id) or token_id < 0:
            raise CheckpointError(
                f"{path}: eos_token_id must be a token id of at least 0, a list of them, or null, not {_shown(eos)}"
            )
        if isinstance(vocabulary, int) and token_id >= vocabulary:
            raise CheckpointError(
                f"{path}: eos_token_id must be below the model's vocab_size of {vocabulary}, not {_shown(token_id)}"
            )
