"""The per-engine state of the simulated device. Does not import torch.

Engines of one shape share graphs, but the steps of each engine are checked against its own limits.
"""

import os
from contextvars import ContextVar
from dataclasses import dataclass

from engine.backends import sendnn
from engine.backends.errors import DeviceRefusedError


@dataclass(frozen=True)
class CompiledFor:
    """The limits of compiled graphs: ``context`` in tokens, ``batch`` in rows, ``batch_tkv`` of rows x tkv."""

    context: int
    batch: int
    batch_tkv: int

    @classmethod
    def from_environment(cls) -> "CompiledFor":
        """Read the limits from the environment. Raises DeviceRefusedError where a variable is not set."""
        try:
            return cls(*(int(os.environ[name]) for name in (sendnn.CONTEXT, sendnn.BATCH, sendnn.BATCH_TKV)))
        except (KeyError, ValueError):
            names = ", ".join((sendnn.CONTEXT, sendnn.BATCH, sendnn.BATCH_TKV))
            raise DeviceRefusedError(f"the limits to compile for are not set: {names}") from None


class Program:
    """The device's state of one engine: the limits in the environment at the engine's first run."""

    def __init__(self) -> None:
        self._limits: CompiledFor | None = None

    @property
    def limits(self) -> CompiledFor:
        """The limits, read from the environment once. Raises DeviceRefusedError where they are not set."""
        if self._limits is None:
            self._limits = CompiledFor.from_environment()
        return self._limits


PROGRAM: ContextVar[Program] = ContextVar("program")
"""The state of the engine whose step runs in this thread."""
