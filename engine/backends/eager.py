"""PyTorch as it is: float32, nothing compiled, no demands on shapes."""

from engine.backends.backend import Backend

BACKEND = Backend("eager", dtype="float32", attention=("paged", "fms"))
