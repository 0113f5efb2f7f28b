"""A whole run as it is drawn. The layout is the scheduler's (``schedulers/*/bars.py``), ``stretches.py`` uses it."""

from dataclasses import dataclass

from harness.schedulers.bars import Size, Stretch
from harness.schedulers.drawing import Drawing
from harness.types import BLOCK_SIZE


@dataclass(frozen=True)
class TimeLine:
    """All of a run: ``sizes`` by sequence, ``stretches`` in order and without gaps; ``drawing`` is its scheduler's."""

    sizes: tuple[Size, ...]
    stretches: tuple[Stretch, ...]
    drawing: Drawing

    @property
    def last_step(self) -> int:
        return self.stretches[-1].last

    @property
    def highest_tkv(self) -> int:
        return max(stretch.tkv_at(stretch.last) for stretch in self.stretches)

    @property
    def widest(self) -> int:
        """The most tokens that any sequence holds or has reserved, with its left padding."""
        bars = [bar for stretch in self.stretches for bar in stretch.bars.values()]
        return max((bar.top + bar.unused for bar in bars), default=BLOCK_SIZE)

    def at(self, step: int) -> Stretch | None:
        """The stretch that a step belongs to."""
        return next((stretch for stretch in self.stretches if stretch.first <= step <= stretch.last), None)
