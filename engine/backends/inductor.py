"""PyTorch's own compiler: float32 on CPU. It writes C++ and needs a compiler for it."""

import os
from shutil import which

from engine.backends.backend import Backend

BACKEND = Backend("inductor", dtype="float32", attention=("paged", "fms"), compiled=True)
COMPILERS = ("g++", "clang++", "c++")


def cpp_compiler() -> str | None:
    """The C++ compiler that it would find: ``$CXX``, else one of the usual names; None where there is none."""
    return next(filter(which, filter(None, (os.environ.get("CXX"), *COMPILERS))), None)
