"""The command line that a process shows in ``ps`` and in ``/proc``: a fork has that of the process it came from."""

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path

ARG_START, ARG_END = 45, 46
"""Fields 48 and 49 of ``/proc/self/stat``, counted from the one behind the name."""


def name_process(words: Sequence[str]) -> None:
    """Show these words instead, cut off where they are longer than the command line that was."""
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
    """As if it had been started by ``python -m module``."""
    name_process(["python", "-m", module])
