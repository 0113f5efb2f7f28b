"""Determine the number of xdist's workers for ``-n auto``."""

import os
from pathlib import Path

BYTES_OF_A_WORKER = 2 << 30
"""Memory that one worker and its engine need, in bytes."""


def useful_workers() -> int:
    """Return the number of workers: one for each core that this process may use, or fewer if memory is short."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = free_memory()
    return cores if free is None else max(1, min(cores, free // BYTES_OF_A_WORKER))


def free_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the memory in bytes that is available without swapping, None if the system does not report it."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
