"""The properties of a backend, as data. This file does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BYTES = {"float32": 4, "float16": 2}


@dataclass(frozen=True)
class Backend:
    """The properties of a backend.

    ``dtype`` is the dtype of weights, KV cache and mask; weights of another dtype are cast. With ``compiled``,
    ``torch.compile`` compiles the model with ``options`` during the warm-up, and never afterwards. ``attention`` lists
    the attention operations that the backend supports, the default first. ``shape_rules`` lists the rules for the
    shapes of the tensors of a step, one sentence per rule.
    """

    name: str
    dtype: str
    attention: tuple[str, ...]
    compiled: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    shape_rules: tuple[str, ...] = ()

    @property
    def bytes_of_a_number(self) -> int:
        """Return the size of one element of ``dtype`` in bytes."""
        return BYTES[self.dtype]
