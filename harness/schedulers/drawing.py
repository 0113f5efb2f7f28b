"""How time-lines of a scheduler are drawn: optional elements of lanes, and the legend."""

from dataclasses import dataclass

TOKENS_OF_A_CHARACTER = 8
"""Minimum number of tokens that one character of a text picture represents."""
LANE_HEIGHT = 46
"""Height of a sequence's lane, in pixels."""
UNUSED_WORDS = f"reserved, not used   (a character is {TOKENS_OF_A_CHARACTER} tokens, or as many as it says)"


@dataclass(frozen=True)
class Drawing:
    """``text_legend`` explains the characters of a text picture, one line each.

    ``measure`` is what the line on top shows of each step: ``tkv``, or how many ``tokens`` are computed.
    ``takes_turns``: not every running request takes part in every step, so a picture shows whose turn it is, who is
    paused, the tkv of each and which blocks are shared. ``aligned``: the batch ends in one column, so what a sequence
    does not hold is left of its first block. ``legend`` are the names of what pictures show of this scheduler alone
    (``harness/timeline/legend.py``), ``lane_height`` pixels a sequence.
    """

    text_legend: tuple[str, ...]
    takes_turns: bool = False
    aligned: bool = True
    legend: frozenset[str] = frozenset()
    measure: str = "tkv"
    lane_height: int = LANE_HEIGHT
