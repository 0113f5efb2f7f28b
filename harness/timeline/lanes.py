"""Draw the lane of one sequence in an SVG time-line: how many tokens it has in the KV cache at each step.

Coordinates are whole pixels, and each part of a bar is one SVG path, to keep pages with a thousand time-lines small.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from harness.schedulers.bars import Stretch
from harness.timeline.model import TimeLine

LABELS = 96
"""Width of the column of labels on the left, in pixels."""
PARTS = ("left", "found", "prompt", "made", "right", "unused")
"""The CSS class of each part of a bar, in the order of ``Bar.parts``. The classes are in timeline.css."""


@dataclass(frozen=True)
class Scale:
    """Converts steps and numbers of tokens to coordinates, in pixels.

    ``step`` is the width of a step in pixels. ``lane`` is the height of a lane in pixels, which stands for ``tokens``
    tokens. ``tkv`` is the largest value of the curve above the lanes, which shows tkv or the tokens computed per step.
    ``block`` is the number of tokens in a block.
    """

    step: float
    tokens: int
    tkv: int
    lane: int
    block: int

    def x(self, step: float) -> float:
        return LABELS + step * self.step

    def up(self, tokens: float) -> float:
        return tokens * self.lane / self.tokens


def lane(line: TimeLine, sequence: int, bottom: int, scale: Scale) -> Iterator[str]:
    """Yield the SVG elements of the lane of one sequence. ``bottom`` is the y coordinate of the lane's lower edge."""
    size = line.sizes[sequence]
    yield f'<text class="label" x="{LABELS - 6}" y="{place(bottom - scale.lane / 2)}">{sequence}</text>'
    words = f"{size.prompt_length} + {size.max_tokens}"
    yield f'<text class="label small" x="{LABELS - 6}" y="{place(bottom - scale.lane / 2 + 13)}">{words}</text>'
    yield f'<path class="ground" d="M{LABELS} {place(bottom)}H{place(scale.x(line.last_step + 1))}"/>'
    for first, last in spans(line.stretches, lambda stretch: sequence in stretch.row.waiting):
        yield f'<path class="waits" d="M{place(scale.x(first))} {place(bottom - 6)}H{place(scale.x(last + 1))}"/>'
    held = [_Held.of(stretch, sequence, scale) for stretch in line.stretches if sequence in stretch.bars]
    for part, name in enumerate(PARTS):
        path = "".join(_area(edges, bottom) for edges in _areas(held, part))
        if path:
            yield f'<path class="{name}" d="{path}"/>'
    borders = _borders(held, bottom, scale)
    if borders:
        yield f'<path class="border" d="{borders}"/>'
    for stretch in line.stretches:
        if sequence in stretch.row.finished:
            yield f'<path class="ends" d="M{place(scale.x(stretch.last + 1))} {place(bottom)}v{-scale.lane}"/>'


class _Held(NamedTuple):
    """The bar of a sequence in one stretch: a stack of parts whose heights may differ at its left and right end.

    ``left`` and ``right`` are the x coordinates of the ends. ``begin`` has the heights of all edges between parts at
    the left end, from the bottom of the first part to the top of the last part, in pixels, and ``end`` has them at the
    right end. ``first_border`` and ``last_border`` are the heights of the lowest and the highest line between blocks,
    in tokens.
    """

    left: int
    right: int
    begin: tuple[int, ...]
    end: tuple[int, ...]
    first_border: int
    last_border: int

    @classmethod
    def of(cls, stretch: Stretch, sequence: int, scale: Scale) -> "_Held":
        begin, end = stretch.bars[sequence], stretch.bars_at(stretch.last)[sequence]
        tops = [tuple(round(scale.up(sum(bar.parts[:part]))) for part in range(len(PARTS) + 1)) for bar in (begin, end)]
        left, right = round(scale.x(stretch.first)), round(scale.x(stretch.last + 1))
        return cls(left, right, tops[0], tops[1], max(begin.indent, scale.block), begin.top)


class _Edge(NamedTuple):
    """The lower and the upper edge of a part of a bar at the x coordinate ``x``.

    ``low`` and ``high`` are in pixels above the lower edge of the lane.
    """

    x: int
    low: int
    high: int


def _areas(held: Sequence[_Held], part: int) -> Iterator[list[_Edge]]:
    """Yield the outlines of one part, such as the left padding, in consecutive bars of a sequence.

    ``part`` is the index of the part in ``PARTS``. There are several outlines if the part is empty in some of the bars.
    """
    edges: list[_Edge] = []
    for each in held:
        begin = _Edge(each.left, each.begin[part], each.begin[part + 1])
        end = _Edge(each.right, each.end[part], each.end[part + 1])
        empty = begin.low == begin.high and end.low == end.high
        if edges and (empty or edges[-1].x != begin.x):
            yield edges
            edges = []
        if not empty:
            edges += [begin, end]
    if edges:
        yield edges


def _area(edges: Sequence[_Edge], bottom: int) -> str:
    """Return the SVG path of an outline. Its coordinates are relative, because relative coordinates are shorter."""
    corners = [(edge.x, edge.high) for edge in edges] + [(edge.x, edge.low) for edge in reversed(edges)]
    path = [f"M{corners[0][0]} {bottom - corners[0][1]}"]
    for (x, y), (next_x, next_y) in pairwise(corners):
        across, down = next_x - x, y - next_y
        if across and down:
            path.append(f"l{across} {down}")
        elif across:
            path.append(f"h{across}")
        elif down:
            path.append(f"v{down}")
    return "".join([*path, "z"])


def _borders(held: Sequence[_Held], bottom: int, scale: Scale) -> str:
    """Return the SVG path of the lines between the blocks of a sequence."""
    runs: list[tuple[int, int, int, int]] = []
    for each in held:
        if runs and runs[-1][1:] == (each.left, each.first_border, each.last_border):
            runs[-1] = (runs[-1][0], each.right, each.first_border, each.last_border)
        else:
            runs.append((each.left, each.right, each.first_border, each.last_border))
    return "".join(
        f"M{left} {bottom - round(scale.up(tokens))}h{right - left}"
        for left, right, lowest, highest in runs
        for tokens in range(lowest, highest + 1, scale.block)
    )


def spans(stretches: Sequence[Stretch], holds: Callable[[Stretch], bool]) -> Iterator[tuple[int, int]]:
    """Yield (first step, last step) of each range of consecutive stretches for which ``holds(stretch)`` is true."""
    first = None
    for stretch in stretches:
        now = holds(stretch)
        if now and first is None:
            first = stretch.first
        if not now and first is not None:
            yield first, stretch.first - 1
            first = None
    if first is not None:
        yield first, stretches[-1].last


def place(value: float) -> str:
    """Return a coordinate as text, rounded to whole pixels. Fractions would not be visible."""
    return str(round(value))
