"""Set the command line that ``ps`` and ``/proc`` show for a fork, which is that of its parent otherwise."""

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path

ARG_START, ARG_END = 45, 46
"""Fields 48 and 49 of ``/proc/self/stat``, counted from the one after the name."""


def name_process(words: Sequence[str]) -> None:
    """Set the command line, cut to the length of the original command line."""
    if sys.platform != "linux":
        return
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    start, end = int(fields[ARG_START]), int(fields[ARG_END])
    if end <= start:
        return
    text = b"\0".join(word.encode() for word in words)[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))


def name_module(module: str) -> None:
    """Set the command line to ``python -m module``."""
    name_process(["python", "-m", module])
