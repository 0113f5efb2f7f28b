"""The backend ``eager``: PyTorch in eager mode with float32. Nothing is compiled, and any shape is supported."""

from engine.backends.backend import Backend

BACKEND = Backend("eager", dtype="float32", attention=("paged", "fms"))
