"""Static batching, as a baseline: fill a batch, run it to its end, then fill the next.

Its outputs are those of continuous batching; its steps are not. That is how one can tell the two apart.
"""

from collections.abc import Collection

from engine.config import ResolvedLimits
from engine.scheduling.continuous.scheduler import ContinuousScheduler, ScheduledSequence
from engine.scheduling.plan import Decode


class StaticScheduler(ContinuousScheduler):
    """As ContinuousScheduler, but nobody joins a batch that has decoded."""

    def __init__(self, limits: ResolvedLimits) -> None:
        super().__init__(limits)
        self._has_decoded = False

    def commit(self, ended: Collection[str]) -> None:
        """Also notes that the batch is closed from its first decode on, and open again once it is empty."""
        self._has_decoded = self._has_decoded or isinstance(self._plan, Decode)
        super().commit(ended)
        if not self._running:
            self._has_decoded = False

    def _may_join(self, sequence: ScheduledSequence) -> bool:
        return not self._has_decoded and super()._may_join(sequence)
