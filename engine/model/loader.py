"""Load the weights of a checkpoint in the dtype of the backend."""

import json
import logging
from collections import deque
from collections.abc import Hashable, Mapping
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from fms.models import get_model, list_variants
from safetensors import SafetensorError
from torch import distributed

from checkpoints import Checkpoint, CheckpointError
from engine.model.fms_parameters import fms_model

LOG = logging.getLogger("engine")
DEFAULT_DTYPE = "float32"
MODELS_KEPT = 4
"""The number of models that are kept in memory after their last engine was closed, for later engines."""


class _Weights(NamedTuple):
    """The address of a parameter and its version counter in torch, to detect that the parameter was changed."""

    place: int
    changes: int


_LOADING = Lock()
_MODELS: "WeakValueDictionary[Hashable, Any]" = WeakValueDictionary()
_AS_LOADED: "WeakKeyDictionary[Any, tuple[_Weights, ...]]" = WeakKeyDictionary()
_RECENT: "deque[Any]" = deque(maxlen=MODELS_KEPT)


def load_model(checkpoint: Checkpoint, dtype: torch.dtype, *, divided: bool) -> Any:
    """Return the model of a checkpoint, on CPU and ready for inference.

    With ``divided`` the model is divided among the processes of torch's process group. Otherwise it is loaded once per
    process for each checkpoint and dtype: engines share it and must not change it. A model whose weights were changed
    is loaded again. A warning is logged if a checkpoint is cast to float16, the dtype of the device. Raises
    CheckpointError if the weights cannot be read.
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
    """Return a key that changes with the checkpoint: its folder, and the size and modification time of each file."""
    files = sorted(file for file in checkpoint.path.iterdir() if file.is_file())
    stats = [(file.name, file.stat()) for file in files]
    return str(checkpoint.path), tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _weights(model: Any) -> tuple[_Weights, ...]:
    tensors = (*model.parameters(), *model.buffers())
    return tuple(_Weights(tensor.data_ptr(), tensor._version) for tensor in tensors)


def _loaded(checkpoint: Checkpoint, settings: Mapping[str, Any], dtype: torch.dtype, *, divided: bool) -> Any:
    parts = {"distributed_strategy": "tp", "group": distributed.group.WORLD} if divided else {}
    try:
        model = get_model(
            model_path=str(checkpoint.path),
            device_type="cpu",
            data_type=dtype,
            fused_weights=False,
            **_described(settings),
            **parts,
        ).eval()
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{checkpoint.path}: the weights cannot be read: {error}") from error
    _cast_rotations(model, dtype)
    return model


def _say_what_is_cast(name: str, settings: Mapping[str, Any], dtype: torch.dtype) -> None:
    has = settings.get("dtype") or settings.get("torch_dtype") or DEFAULT_DTYPE
    gets = str(dtype).removeprefix("torch.")
    if dtype == torch.float16 and has != gets:
        LOG.warning("model %s is in %s and is cast to %s, the only dtype of the device", name, has, gets)


def _described(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``get_model`` for the content of a config.json.

    For an architecture that ``fms_model`` supports, they are its name in ibm-fms and all hyperparameters (number of
    layers, heads and so on). Otherwise they are only the architecture ``hf_pretrained``, with which ibm-fms reads the
    hyperparameters from the config.json itself.
    """
    described = fms_model(settings)
    if described is None:
        return {"architecture": "hf_pretrained"}
    # Which variant of the architecture is named does not matter: the parameters override all of its values.
    architecture = {"architecture": described.architecture, "variant": list_variants(described.architecture)[0]}
    return architecture | {"source": "hf"} | described.parameters


def _cast_rotations(model: Any, dtype: torch.dtype) -> None:
    """Cast the tables of the rotary embedding to ``dtype``. They are not parameters, so ibm-fms does not cast them."""
    for module in model.modules():
        encoder = getattr(module, "position_encoder", None)
        for tables in getattr(encoder, "cached_freqs", {}).values():
            for alpha, table in tables.items():
                if isinstance(table, torch.Tensor):
                    tables[alpha] = table.to(dtype)
