"""How many of xdist's workers pay."""

import os
from pathlib import Path

BYTES_OF_A_WORKER = 2 << 30
"""What a worker and its engine may need, with some to spare."""


def workers_that_pay() -> int:
    """One for each core that this process may use, as far as there is memory for them; at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free = free_memory()
    return cores if free is None else max(1, min(cores, free // BYTES_OF_A_WORKER))


def free_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
