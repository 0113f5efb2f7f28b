"""Check the weights of a checkpoint by the headers of its files, which name every tensor with its shape.

Only the headers are read, so that the check of gigabytes takes milliseconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from checkpoints.configuration import head_size, is_known
from checkpoints.errors import CheckpointError, one_line
from checkpoints.folders import weight_files

_LENGTH = 8
"""The bytes at the start of a safetensors file that have the length of its header."""

_LONGEST = 100_000_000
"""The longest header, in bytes, that the safetensors library reads."""

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)", re.ASCII)


class _Tensor(NamedTuple):
    file: Path
    name: str
    shape: tuple[int, ...]


def check_weights(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a file of weights is damaged, or if the weights do not fit ``config``.

    ``config`` is the content of the config.json in ``folder``, in which ``check_values`` found no error. Number of
    layers and shapes are compared only for plain weights of the architectures that are known here.
    """
    tensors = [tensor for path in weight_files(folder) for tensor in _tensors(path)]
    if not is_known(config) or config.get("quantization_config"):
        return
    place = folder / "config.json"
    numbers = [int(match[1]) for tensor in tensors if (match := _LAYER.fullmatch(tensor.name))]
    layers = config.get("num_hidden_layers")
    if numbers and layers is not None and layers != max(numbers) + 1:
        raise CheckpointError(f"{place}: num_hidden_layers is {layers}, but the weights have {max(numbers) + 1} layers")
    shapes = _shapes(config)
    for tensor in tensors:
        match = _LAYER.fullmatch(tensor.name)
        fields, wanted = shapes.get(match[2] if match else tensor.name, ("", tensor.shape))
        if None not in wanted and tensor.shape != wanted:
            raise CheckpointError(
                f"{place}: {fields} do not fit the weights, because {tensor.name} in {tensor.file.name} has the shape"
                f" {list(tensor.shape)} where {list(wanted)} is expected"
            )


def _shapes(config: Mapping[str, Any]) -> Mapping[str, tuple[str, tuple[int | None, ...]]]:
    """Return the fields that determine the shape of a tensor, and the shape, by the tensor's name inside its layer.

    A number that ``config`` does not have is None.
    """
    hidden, inner, words, heads = (
        config.get(name) for name in ("hidden_size", "intermediate_size", "vocab_size", "num_attention_heads")
    )
    shared = config.get("num_key_value_heads") or heads
    size = head_size(config)
    keys = None if size is None or shared is None else size * shared
    head_fields = "hidden_size, num_attention_heads, num_key_value_heads and head_dim"
    return {
        "model.embed_tokens.weight": ("vocab_size and hidden_size", (words, hidden)),
        "lm_head.weight": ("vocab_size and hidden_size", (words, hidden)),
        "self_attn.k_proj.weight": (head_fields, (keys, hidden)),
        "self_attn.v_proj.weight": (head_fields, (keys, hidden)),
        "mlp.gate_proj.weight": ("intermediate_size and hidden_size", (inner, hidden)),
        "mlp.up_proj.weight": ("intermediate_size and hidden_size", (inner, hidden)),
        "mlp.down_proj.weight": ("intermediate_size and hidden_size", (hidden, inner)),
    }


def _tensors(path: Path) -> Iterator[_Tensor]:
    """Yield the tensors of a safetensors file. Raises CheckpointError if the file is damaged."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH), "little")
            if size < _LENGTH or length > _LONGEST:
                raise ValueError("it is not a safetensors file")
            if size < _LENGTH + length:
                raise ValueError(f"it is incomplete, because its {size} bytes end inside its header")
            header = json.loads(file.read(length))
        ends = [_LENGTH + length]
        for name, tensor in header.items():
            if name != "__metadata__":
                yield _Tensor(path, name, tuple(tensor["shape"]))
                ends.append(_LENGTH + length + tensor["data_offsets"][1])
        if size != max(ends):
            raise ValueError(f"it has {size} bytes where its header says {max(ends)}")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from None
    except (LookupError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise CheckpointError(f"{path}: cannot be read: the header of this safetensors file is damaged") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
