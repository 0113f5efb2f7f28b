"""A summary of what was compiled for an engine. This file does not import torch."""

from typing import NamedTuple


class Compilation(NamedTuple):
    """The number of compiled graphs of an engine, summed over all of its processes.

    ``backend`` is the name of the backend for reports, for example ``sendnn (simulated)``. ``recompiles`` counts the
    steps after the warm-up that matched no compiled graph; each of these steps failed. ``shared`` is the number of
    graphs that this engine did not compile, because an earlier engine of the same process had compiled them.
    """

    backend: str
    graphs: int
    recompiles: int
    shared: int = 0
