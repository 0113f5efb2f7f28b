"""The state of the simulated device that each engine has for itself. No torch in here.

Engines of one shape share graphs, but each has limits of its own, which its steps are checked against.
"""

import os
from contextvars import ContextVar
from dataclasses import dataclass

from engine.backends import sendnn
from engine.backends.errors import DeviceRefusedError


@dataclass(frozen=True)
class CompiledFor:
    """``context`` in tokens, ``batch`` in rows of a decode, ``batch_tkv`` the most that rows x tkv may be."""

    context: int
    batch: int
    batch_tkv: int

    @classmethod
    def from_environment(cls) -> "CompiledFor":
        """As the environment says while a graph is compiled. Raises DeviceRefusedError where it does not."""
        try:
            return cls(*(int(os.environ[name]) for name in (sendnn.CONTEXT, sendnn.BATCH, sendnn.BATCH_TKV)))
        except (KeyError, ValueError):
            names = ", ".join((sendnn.CONTEXT, sendnn.BATCH, sendnn.BATCH_TKV))
            raise DeviceRefusedError(f"the device is not told what to compile for: {names}") from None


class Program:
    """What the device keeps of one engine: the limits in the environment at the engine's first run."""

    def __init__(self) -> None:
        self._limits: CompiledFor | None = None

    @property
    def limits(self) -> CompiledFor:
        """Read from the environment once. Raises DeviceRefusedError where they are not there by then."""
        if self._limits is None:
            self._limits = CompiledFor.from_environment()
        return self._limits


PROGRAM: ContextVar[Program] = ContextVar("program")
"""The program of the engine whose step is running in this thread."""
