"""How time-lines of a scheduler are drawn: optional elements of lanes, and the legend."""

from dataclasses import dataclass

TOKENS_OF_A_CHARACTER = 8
"""Minimum number of tokens that one character of a text picture represents."""
LANE_HEIGHT = 46
"""Height of a sequence's lane, in pixels."""
PADDED = frozenset({"left", "unused"})
"""Legend entries of schedulers that pad prompts on the left and reserve blocks."""
UNUSED_WORDS = f"reserved, not used   (a character is {TOKENS_OF_A_CHARACTER} tokens, or as many as it says)"


@dataclass(frozen=True)
class Drawing:
    """How time-lines of a scheduler are drawn.

    ``text_legend`` explains the characters of a text picture, one line each. ``measure`` is what the line at the top
    shows for each step: ``tkv``, or the number of computed ``tokens``. ``takes_turns``: not every running request takes
    part in every step, so a picture marks the requests that do, paused requests, the tkv of each request and shared
    blocks. ``aligned``: all sequences end in the same column, so blocks that a sequence does not hold are left of its
    first block. ``legend`` lists names of legend entries that not all schedulers have (``harness/timeline/legend.py``).
    ``lane_height`` is in pixels.
    """

    text_legend: tuple[str, ...]
    takes_turns: bool = False
    aligned: bool = True
    legend: frozenset[str] = PADDED
    measure: str = "tkv"
    lane_height: int = LANE_HEIGHT
