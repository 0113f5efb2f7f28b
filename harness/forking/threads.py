"""Whether a process is one to fork: with one thread it is."""

from pathlib import Path
from threading import active_count


def count_threads() -> int:
    """Of this process, those of libraries among them."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else active_count()


def refusal(threads: int) -> str:
    """A fork would have none of the other threads, but their locks, and OpenMP waits for ever for those not there."""
    return f"a process of {threads} threads is not to be forked: something imported or run here began one"
