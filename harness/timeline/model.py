"""``TimeLine``: the data from which a time-line is drawn. ``stretches.py`` creates ``TimeLine`` objects."""

from dataclasses import dataclass

from harness.schedulers.bars import Size, Stretch
from harness.schedulers.drawing import Drawing
from harness.types import BLOCK_SIZE


@dataclass(frozen=True)
class TimeLine:
    """The time-line of a run.

    ``sizes`` has the size of each request. ``stretches`` are the ranges of steps that are drawn as one shape, in order
    and without gaps. ``drawing`` says how time-lines of the run's scheduler are drawn. ``block_size`` is in tokens.
    """

    sizes: tuple[Size, ...]
    stretches: tuple[Stretch, ...]
    drawing: Drawing
    block_size: int = BLOCK_SIZE

    @property
    def last_step(self) -> int:
        return self.stretches[-1].last

    @property
    def highest_tkv(self) -> int:
        return max(stretch.tkv_at(stretch.last) for stretch in self.stretches)

    @property
    def widest(self) -> int:
        """Return the length in tokens of the longest bar, from its left padding to the end of its reserved blocks."""
        bars = [bar for stretch in self.stretches for bar in stretch.bars.values()]
        return max((bar.top + bar.unused for bar in bars), default=self.block_size)

    def at(self, step: int) -> Stretch | None:
        """Return the stretch that contains a step, None if there is none."""
        return next((stretch for stretch in self.stretches if stretch.first <= step <= stretch.last), None)
