"""The model of a time-line.

The scheduler (``schedulers/*/bars.py``) defines the layout, ``stretches.py`` creates it.
"""

from dataclasses import dataclass

from harness.schedulers.bars import Size, Stretch
from harness.schedulers.drawing import Drawing
from harness.types import BLOCK_SIZE


@dataclass(frozen=True)
class TimeLine:
    """A whole run: ``sizes`` by sequence, ``stretches`` in order and without gaps, ``drawing`` of its scheduler."""

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
        """Return the largest number of tokens that a sequence holds or has reserved, including left padding."""
        bars = [bar for stretch in self.stretches for bar in stretch.bars.values()]
        return max((bar.top + bar.unused for bar in bars), default=BLOCK_SIZE)

    def at(self, step: int) -> Stretch | None:
        """Return the stretch that contains a step."""
        return next((stretch for stretch in self.stretches if stretch.first <= step <= stretch.last), None)
