"""The backends that run a model (eager, inductor, sendnn), each with its dtype, compiler options and shape rules.

This file, ``backend.py``, ``errors.py`` and the file of each backend do not import torch, so that an invalid
configuration is reported before torch is imported.
"""

from collections.abc import Mapping

from engine.backends import eager, inductor, sendnn
from engine.backends.backend import Backend

BACKENDS: Mapping[str, Backend] = {b.name: b for b in (eager.BACKEND, inductor.BACKEND, sendnn.BACKEND)}


def label(name: str) -> str:
    """Return the name of a backend for reports, which is ``sendnn (simulated)`` for a simulated ``sendnn``."""
    return f"{name} (simulated)" if name == sendnn.BACKEND.name and sendnn.simulated() else name
