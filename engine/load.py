"""Weights from a checkpoint, in the dtype of the backend."""

import json
import logging
from typing import Any

import torch
from fms.models import get_model
from torch import distributed

from checkpoints import Checkpoint

LOG = logging.getLogger("engine")
USUAL_DTYPE = "float32"


def load_model(checkpoint: Checkpoint, dtype: torch.dtype, *, divided: bool) -> Any:
    """The model on CPU, ready for inference; ``divided`` among the processes of torch's group.

    A checkpoint in another dtype than the device's float16 is named in a warning.
    """
    _say_what_is_cast(checkpoint, dtype)
    parts = {"distributed_strategy": "tp", "group": distributed.group.WORLD} if divided else {}
    model = get_model(
        "hf_pretrained",
        model_path=str(checkpoint.path),
        device_type="cpu",
        data_type=dtype,
        fused_weights=False,
        **parts,
    ).eval()
    _cast_rotations(model, dtype)
    return model


def _say_what_is_cast(checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    settings = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    has = settings.get("dtype") or settings.get("torch_dtype") or USUAL_DTYPE
    gets = str(dtype).removeprefix("torch.")
    if dtype == torch.float16 and has != gets:
        LOG.warning("model %s is in %s, and is cast to %s: the device has no other", checkpoint.name, has, gets)


def _cast_rotations(model: Any, dtype: torch.dtype) -> None:
    """The table of rotary positions is no parameter of the model, and stays float32 when those are cast."""
    for module in model.modules():
        encoder = getattr(module, "position_encoder", None)
        for tables in getattr(encoder, "cached_freqs", {}).values():
            for alpha, table in tables.items():
                if isinstance(table, torch.Tensor):
                    tables[alpha] = table.to(dtype)
