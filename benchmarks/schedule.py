"""Simulate when jobs run on a number of slots: the largest job (slots x seconds) that fits starts first."""

import heapq
from collections.abc import Sequence
from typing import NamedTuple


class Job(NamedTuple):
    """A job that occupies ``slots`` slots at the same time for ``seconds``."""

    slots: int
    seconds: float


class Outcome(NamedTuple):
    """The result of a simulation.

    ``wall`` is the simulated duration of all jobs in seconds. ``busy`` is the sum over all slots of the seconds in
    which they run a job, at most ``slots`` x ``wall``.
    """

    wall: float
    busy: float
    slots: int

    @property
    def idle_share(self) -> float:
        return max(0.0, 1 - self.busy / (self.slots * self.wall)) if self.wall else 0.0


def simulate(jobs: Sequence[Job], slots: int) -> Outcome:
    """Simulate jobs: when slots become free, the job with the largest product of slots and seconds that fits starts.

    Raises ValueError if a job needs more than ``slots`` slots.
    """
    waiting = sorted(jobs, key=lambda job: (-job.seconds * job.slots, -job.slots))
    if any(job.slots > slots for job in jobs):
        raise ValueError(f"a job needs {max(job.slots for job in jobs)} slots, but there are only {slots}")
    running: list[tuple[float, int]] = []
    now, free = 0.0, slots
    while waiting or running:
        left = []
        for job in waiting:
            if job.slots <= free:
                free -= job.slots
                heapq.heappush(running, (now + job.seconds, job.slots))
            else:
                left.append(job)
        waiting = left
        now, freed = heapq.heappop(running)
        free += freed
        while running and running[0][0] <= now:
            free += heapq.heappop(running)[1]
    return Outcome(now, sum(job.slots * job.seconds for job in jobs), slots)
