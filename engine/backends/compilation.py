"""A summary of what was compiled for an engine. Does not import torch."""

from typing import NamedTuple


class Compilation(NamedTuple):
    """The graphs of an engine, counted over all of its processes.

    ``backend`` is the name in reports. ``recompiles`` counts the steps after the warm-up that matched no graph: each of
    them failed. ``shared`` is how many of the ``graphs`` had been traced for an earlier engine of the process.
    """

    backend: str
    graphs: int
    recompiles: int
    shared: int = 0
