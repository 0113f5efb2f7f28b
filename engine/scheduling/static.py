"""Static batching, a baseline for comparison: fill a batch, run it until all its requests end, then fill the next.

Requests get the same tokens as with the continuous scheduler, but in other steps.
"""

from collections.abc import Collection

from engine.config import ResolvedLimits
from engine.scheduling.continuous.scheduler import ContinuousScheduler, ScheduledSequence
from engine.scheduling.plan import Decode


class StaticScheduler(ContinuousScheduler):
    """A ContinuousScheduler in which no request joins a batch that has decoded."""

    def __init__(self, limits: ResolvedLimits) -> None:
        super().__init__(limits)
        self._has_decoded = False

    def commit(self, ended: Collection[str]) -> None:
        """Commit the step as ContinuousScheduler does, and record whether the batch has decoded or has ended."""
        self._has_decoded = self._has_decoded or isinstance(self._plan, Decode)
        super().commit(ended)
        if not self._running:
            self._has_decoded = False

    def abort(self, request_id: str) -> bool:
        """Abort a request as ContinuousScheduler does. If it was the last of its batch, a new batch can be filled."""
        found = super().abort(request_id)
        if not self._running:
            self._has_decoded = False
        return found

    def _may_join(self, sequence: ScheduledSequence) -> bool:
        return not self._has_decoded and super()._may_join(sequence)
