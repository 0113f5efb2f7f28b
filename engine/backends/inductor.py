"""PyTorch's own compiler: float32 on CPU. It generates C++ and needs a C++ compiler."""

import os
from shutil import which

from engine.backends.backend import Backend

BACKEND = Backend("inductor", dtype="float32", attention=("paged", "fms"), compiled=True)
COMPILERS = ("g++", "clang++", "c++")


def cpp_compiler() -> str | None:
    """Return the C++ compiler of inductor: ``$CXX``, else the first of the default names; None if none is installed."""
    return next(filter(which, filter(None, (os.environ.get("CXX"), *COMPILERS))), None)
