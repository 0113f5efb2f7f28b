"""What was compiled for an engine. No torch in here."""

from typing import NamedTuple


class Compilation(NamedTuple):
    """``backend`` as reports name it. ``recompiles`` counts steps after the warm-up that fitted no graph: each of them
    failed. ``shared`` of the ``graphs`` had been traced for an earlier engine of the process. Of several processes,
    those of all.
    """

    backend: str
    graphs: int
    recompiles: int
    shared: int = 0
