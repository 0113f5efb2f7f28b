"""Number of xdist's workers for ``-n auto``."""

import os
from pathlib import Path

BYTES_OF_A_WORKER = 2 << 30
"""Memory of a worker and its engine, in bytes, with a reserve."""


def useful_workers() -> int:
    """Return one worker for each usable core, limited by memory; at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = free_memory()
    return cores if free is None else max(1, min(cores, free // BYTES_OF_A_WORKER))


def free_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the available memory in bytes without swapping, None if the system does not report it."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
