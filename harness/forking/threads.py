"""Count the threads of this process. A process with more than one thread can't be forked safely."""

from pathlib import Path
from threading import active_count


def count_threads() -> int:
    """Return the number of threads of this process, including those that libraries have started."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else active_count()


def refusal(threads: int) -> str:
    """Return a sentence that says why a process with this number of threads is not forked.

    A fork has only the thread that forked it. Locks held by the other threads would stay locked in the fork, and OpenMP
    would wait for the other threads forever.
    """
    return f"a process with {threads} threads can't be forked: an import or a test started a thread"
