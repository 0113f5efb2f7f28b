"""What is said of a backend. No torch in here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BYTES = {"float32": 4, "float16": 2}


@dataclass(frozen=True)
class Backend:
    """Something that runs a model.

    ``dtype`` is what weights, cache and mask are in; a checkpoint in another one is cast. ``compiled``: the model goes
    through ``torch.compile`` with ``options``, is warmed up, and may not be compiled any more after that.
    ``attention`` names the operations it runs, the usual one first. ``shape_rules`` says in a sentence each what it
    demands of a step.
    """

    name: str
    dtype: str
    attention: tuple[str, ...]
    compiled: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    shape_rules: tuple[str, ...] = ()

    @property
    def bytes_of_a_number(self) -> int:
        """Of ``dtype``."""
        return BYTES[self.dtype]
