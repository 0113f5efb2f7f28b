"""The backend ``inductor``: PyTorch's own compiler, with float32 on CPU. It needs a C++ compiler."""

import os
from shutil import which

from engine.backends.backend import Backend

BACKEND = Backend("inductor", dtype="float32", attention=("paged", "fms"), compiled=True)
COMPILERS = ("g++", "clang++", "c++")


def cpp_compiler() -> str | None:
    """Return the C++ compiler for inductor: ``$CXX`` or the first installed one of COMPILERS; None if there is none."""
    return next(filter(which, filter(None, (os.environ.get("CXX"), *COMPILERS))), None)
