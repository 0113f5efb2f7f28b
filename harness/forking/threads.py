"""Check that a process has one thread, so that it can be forked."""

from pathlib import Path
from threading import active_count


def count_threads() -> int:
    """Return the number of threads of this process, including those of libraries."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else active_count()


def refusal(threads: int) -> str:
    """Return why a process with several threads is not forked.

    A fork has none of the other threads, but their locks, and OpenMP would wait for threads that do not exist.
    """
    return f"a process with {threads} threads can't be forked: an import or a test started a thread"
