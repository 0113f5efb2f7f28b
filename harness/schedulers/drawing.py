"""``Drawing``: how the time-lines of a scheduler are drawn."""

from dataclasses import dataclass

TOKENS_OF_A_CHARACTER = 8
"""Minimum number of tokens that one character stands for in a time-line that consists of text."""
LANE_HEIGHT = 46
"""Height of a sequence's lane in an SVG time-line, in pixels."""
PADDED = frozenset({"left", "unused"})
"""Names of legend entries that only schedulers with left padding and reserved blocks have."""
UNUSED_WORDS = f"reserved, not used   (a character is {TOKENS_OF_A_CHARACTER} tokens if no other number is given)"


@dataclass(frozen=True)
class Drawing:
    """How the time-lines of a scheduler are drawn.

    ``text_legend`` has the lines of the legend for time-lines that consist of text. With ``takes_turns``, not every
    running request takes part in every step. The time-line then marks the requests that take part, and shows pauses,
    the tkv of each request, and shared blocks. With ``aligned``, all sequences end at the same position in the KV
    cache. The legend always has the entries that all schedulers share (``harness/timeline/legend.py``); ``legend`` has
    the names of the further entries for this scheduler. ``measure`` is what the line at the top of the time-line shows:
    ``tkv``, or ``tokens`` for the number of tokens computed in each step. ``lane_height`` is in pixels.
    """

    text_legend: tuple[str, ...]
    takes_turns: bool = False
    aligned: bool = True
    legend: frozenset[str] = PADDED
    measure: str = "tkv"
    lane_height: int = LANE_HEIGHT
