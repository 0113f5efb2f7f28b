"""PyTorch in eager mode: float32, nothing compiled, no requirements on shapes."""

from engine.backends.backend import Backend

BACKEND = Backend("eager", dtype="float32", attention=("paged", "fms"))
