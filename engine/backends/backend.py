"""The description of a backend. Does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BYTES = {"float32": 4, "float16": 2}


@dataclass(frozen=True)
class Backend:
    """A backend: how a model is run.

    ``dtype`` is the dtype of weights, cache and mask; a checkpoint of another dtype is cast. With ``compiled`` the
    model is compiled by ``torch.compile`` with ``options`` during a warm-up, and never after it. ``attention`` names
    the attention operations that the backend supports, the default first. ``shape_rules`` lists its requirements on the
    tensors of a step, one sentence each.
    """

    name: str
    dtype: str
    attention: tuple[str, ...]
    compiled: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    shape_rules: tuple[str, ...] = ()

    @property
    def bytes_of_a_number(self) -> int:
        """The size of one element of ``dtype``."""
        return BYTES[self.dtype]
