"""Set the command line that ``ps`` and ``/proc`` show for a fork, in place of the command line of its parent."""

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path

ARG_START, ARG_END = 45, 46
"""Positions of the fields 48 and 49 of ``/proc/self/stat`` (arg_start, arg_end), counted from field 3 as 0."""


def name_process(words: Sequence[str]) -> None:
    """Set the command line of this process. Words beyond the length of the original command line are cut off."""
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
    """Set the command line of this process to ``python -m module``."""
    name_process(["python", "-m", module])
