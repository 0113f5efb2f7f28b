"""What a model runs on: eager, inductor, sendnn, each with its dtype, its compiler's options and its shape rules.

No torch in here, in ``backend.py``, in ``errors.py`` nor in the file of a backend: a configuration is checked before
torch is imported.
"""

from collections.abc import Mapping

from engine.backends import eager, inductor, sendnn
from engine.backends.backend import Backend

BACKENDS: Mapping[str, Backend] = {b.name: b for b in (eager.BACKEND, inductor.BACKEND, sendnn.BACKEND)}


def label(name: str) -> str:
    """How reports name a backend: ``sendnn (simulated)`` where there is no runtime of a card."""
    return f"{name} (simulated)" if name == sendnn.BACKEND.name and sendnn.simulated() else name
