"""Count the threads of this process. A process with more than one thread can't be forked safely."""

from pathlib import Path
from threading import active_count


def count_threads() -> int:
    """Return the number of threads of this process, including those that libraries have started."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else active_count()


def refusal(threads: int) -> str:
    """Return a sentence that says why a process with this many threads is not forked.

    In a fork the other threads do not exist. Locks that they held stay locked, and OpenMP would wait for them forever.
    """
    return f"a process with {threads} threads can't be forked: an import or a test started a thread"
