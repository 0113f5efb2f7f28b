"""The limits of each engine on the simulated device. This file does not import torch.

Engines of the same shape share graphs, but the device checks the steps of each engine against that engine's limits.
"""

import os
from contextvars import ContextVar
from dataclasses import dataclass

from engine.backends import sendnn
from engine.backends.errors import DeviceRefusedError


@dataclass(frozen=True)
class CompiledFor:
    """The limits that the device is compiled for.

    ``context`` is in tokens, ``batch`` in rows; ``batch_tkv`` is the limit on rows x tkv.
    """

    context: int
    batch: int
    batch_tkv: int

    @classmethod
    def from_environment(cls) -> "CompiledFor":
        """Return the limits in the environment variables. Raises DeviceRefusedError if one is not set to an integer."""
        try:
            return cls(*(int(os.environ[name]) for name in (sendnn.CONTEXT, sendnn.BATCH, sendnn.BATCH_TKV)))
        except (KeyError, ValueError):
            names = ", ".join((sendnn.CONTEXT, sendnn.BATCH, sendnn.BATCH_TKV))
            raise DeviceRefusedError(
                f"the device compiles for the limits in three environment variables, so set them to integers: {names}"
            ) from None


class Program:
    """The state of one engine on the simulated device: the limits that were set when the engine first ran."""

    def __init__(self) -> None:
        self._limits: CompiledFor | None = None

    @property
    def limits(self) -> CompiledFor:
        """Return the limits, which the first call reads from the environment.

        Raises DeviceRefusedError if the environment variables with the limits are not set.
        """
        if self._limits is None:
            self._limits = CompiledFor.from_environment()
        return self._limits


PROGRAM: ContextVar[Program] = ContextVar("program")
"""The state of the engine whose step runs in this thread."""
