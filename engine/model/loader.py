"""Weights from a checkpoint, in the dtype of the backend."""

import json
import logging
from collections import deque
from collections.abc import Hashable, Mapping
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from fms.models import get_model, list_variants
from torch import distributed

from checkpoints import Checkpoint
from engine.model.fms_parameters import fms_model

LOG = logging.getLogger("engine")
DEFAULT_DTYPE = "float32"
MODELS_KEPT = 4
"""Models that stay in memory when the last engine that runs them has gone: the next engine finds them loaded."""


class _Weights(NamedTuple):
    """What tells whether a parameter is as it was loaded: its place in memory, and torch's count of changes to it."""

    place: int
    changes: int


_LOADING = Lock()
_MODELS: "WeakValueDictionary[Hashable, Any]" = WeakValueDictionary()
_AS_LOADED: "WeakKeyDictionary[Any, tuple[_Weights, ...]]" = WeakKeyDictionary()
_RECENT: "deque[Any]" = deque(maxlen=MODELS_KEPT)


def load_model(checkpoint: Checkpoint, dtype: torch.dtype, *, divided: bool) -> Any:
    """The model on CPU, ready for inference; ``divided`` among the processes of torch's group.

    It is loaded once a process for each checkpoint and dtype: engines share it, and must not change it. One whose
    weights were changed all the same is loaded again. A checkpoint in another dtype than the device's float16 is named
    in a warning.
    """
    settings = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    _say_what_is_cast(checkpoint.name, settings, dtype)
    if divided:
        return _loaded(checkpoint, settings, dtype, divided=True)
    key = (dtype, *_files(checkpoint))
    with _LOADING:
        model = _MODELS.get(key)
        if model is None or _AS_LOADED[model] != _weights(model):
            model = _loaded(checkpoint, settings, dtype, divided=False)
            _MODELS[key], _AS_LOADED[model] = model, _weights(model)
            _RECENT.append(model)
    return model


def _files(checkpoint: Checkpoint) -> tuple[Hashable, ...]:
    """What tells whether a checkpoint is the same as before: its folder, and when each file in it was written."""
    files = sorted(file for file in checkpoint.path.iterdir() if file.is_file())
    stats = [(file.name, file.stat()) for file in files]
    return str(checkpoint.path), tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _weights(model: Any) -> tuple[_Weights, ...]:
    tensors = (*model.parameters(), *model.buffers())
    return tuple(_Weights(tensor.data_ptr(), tensor._version) for tensor in tensors)


def _loaded(checkpoint: Checkpoint, settings: Mapping[str, Any], dtype: torch.dtype, *, divided: bool) -> Any:
    parts = {"distributed_strategy": "tp", "group": distributed.group.WORLD} if divided else {}
    model = get_model(
        model_path=str(checkpoint.path),
        device_type="cpu",
        data_type=dtype,
        fused_weights=False,
        **_described(settings),
        **parts,
    ).eval()
    _cast_rotations(model, dtype)
    return model


def _say_what_is_cast(name: str, settings: Mapping[str, Any], dtype: torch.dtype) -> None:
    has = settings.get("dtype") or settings.get("torch_dtype") or DEFAULT_DTYPE
    gets = str(dtype).removeprefix("torch.")
    if dtype == torch.float16 and has != gets:
        LOG.warning("model %s is in %s, and is cast to %s: the device has no other", name, has, gets)


def _described(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What ``get_model`` is to make: all of its parameters, or that it is to infer them with transformers."""
    described = fms_model(settings)
    if described is None:
        return {"architecture": "hf_pretrained"}
    # Any variant will do: the parameters replace all of its own, as where ibm-fms infers them.
    architecture = {"architecture": described.architecture, "variant": list_variants(described.architecture)[0]}
    return architecture | {"source": "hf"} | described.parameters


def _cast_rotations(model: Any, dtype: torch.dtype) -> None:
    """The table of rotary positions is no parameter of the model, and stays float32 when those are cast."""
    for module in model.modules():
        encoder = getattr(module, "position_encoder", None)
        for tables in getattr(encoder, "cached_freqs", {}).values():
            for alpha, table in tables.items():
                if isinstance(table, torch.Tensor):
                    tables[alpha] = table.to(dtype)
