"""Draw a time-line as SVG, with a lane for each request. Time goes to the right, and heights are numbers of tokens.

No information is conveyed by colour only: padding is hatched, unused reservations are empty, and prefills have letters.
Each stretch has an SVG title with its numbers, which browsers show as a tooltip and screen readers read out.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from html import escape

from harness.schedulers.bars import Stretch
from harness.timeline.apart import steps_apart
from harness.timeline.lanes import LABELS, Scale, lane, place
from harness.timeline.legend import legend_height, legend_parts, patterns, style
from harness.timeline.model import TimeLine
from harness.timeline.spoken import described
from harness.timeline.turns import groups, turns, wanted_turns

DRAWN = 860
AXIS, TKV, GAP = 30, 44, 8
MAX_PER_STEP = 24.0
NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
WIDTH = LABELS + DRAWN + 8
LETTERS = {"prefill": "P", "mixed": "M", "idle": "I"}


def as_svg(line: TimeLine, expected: TimeLine | None = None, *, alone: bool = True, title: str = "Time-line") -> str:
    """Return the SVG of a time-line. Steps that differ from ``expected`` also show the expected values.

    With ``alone``, the SVG contains the style sheet and a legend, so that it can be a separate file. Without ``alone``,
    the SVG is part of an HTML page that contains the style sheet and the legend once (``legend.py``).
    """
    both = [line, *([expected] if expected else [])]
    apart = list(steps_apart(line, expected)) if expected else []
    scale = Scale(
        min(MAX_PER_STEP, DRAWN / (max(each.last_step for each in both) + 1)),
        max(each.widest for each in both),
        max(1, *[each.highest_tkv for each in both]),
        line.drawing.lane_height,
        line.block_size,
    )
    lanes = [AXIS + TKV + GAP + i * (scale.lane + GAP) + scale.lane for i in range(len(line.sizes))]
    height = AXIS + TKV + GAP + len(lanes) * (scale.lane + GAP) + 4
    parts = [*_axis(line, scale), *_bands(apart, scale, height), _tkv_line(line.stretches, scale, "tkv")]
    letters = groups(line)
    for sequence, bottom in enumerate(lanes):
        parts += lane(line, sequence, bottom, scale)
        if line.drawing.takes_turns:
            parts += turns(line, sequence, bottom, scale, letters)
    for first, last in apart:
        assert expected is not None
        wanted = list(_between(expected.stretches, first, last))
        parts.append(_tkv_line(wanted, scale, "wanted"))
        parts += [_outline(wanted, sequence, bottom, scale) for sequence, bottom in enumerate(lanes)]
        if line.drawing.takes_turns:
            parts += [wanted_turns(wanted, sequence, bottom, scale) for sequence, bottom in enumerate(lanes)]
    parts += _hovers(line, scale, height)
    whole = height
    if alone:
        key = legend_parts(height, WIDTH, line.drawing.legend)
        whole += legend_height(WIDTH, line.drawing.legend)
        sheet = f'<rect class="sheet" width="{WIDTH}" height="{whole}"/>'
        parts = [f"<style>{style()}</style>", f"<defs>{patterns()}</defs>", sheet, *parts, *key]
    opening = f'<svg class="timeline"{NAMESPACE if alone else ""} viewBox="0 0 {WIDTH} {whole}" role="img">'
    return "\n".join([opening, f"<title>{escape(title)}</title>", *filter(None, parts), "</svg>"])


def legend(own: Collection[str]) -> str:
    """Return the legend as a separate SVG, for a page with many time-lines.

    The entries that all schedulers share are always included. ``own`` has the names of further entries to include.
    """
    height = legend_height(WIDTH, own)
    opening = f'<svg class="timeline" viewBox="0 0 {WIDTH} {height}" role="img">'
    parts = legend_parts(0, WIDTH, own)
    return "\n".join([opening, "<title>What the fillings of time-lines mean</title>", *parts, "</svg>"])


def _axis(line: TimeLine, scale: Scale) -> Iterator[str]:
    """Yield the elements of the axis: the number of the first step of each stretch, and a letter for its kind."""
    free = 0.0
    for stretch in line.stretches:
        x = scale.x(stretch.first)
        if x >= free:
            yield f'<text class="number" x="{place(x)}" y="11">{stretch.first}</text>'
            free = x + 7 * len(str(stretch.first)) + 8
        kind, width = stretch.row.kind, stretch.steps * scale.step
        yield f'<rect class="kind {kind}" x="{place(x)}" y="16" width="{place(width)}" height="10"/>'
        letter = "C" if stretch.chunk else LETTERS.get(kind, "")
        if letter and scale.step >= 5:
            yield f'<text class="letter" x="{place(x + width / 2)}" y="24">{letter}</text>'
    yield f'<text class="label" x="{LABELS - 6}" y="24">step</text>'
    yield f'<text class="label" x="{LABELS - 6}" y="{AXIS + 12}">{line.drawing.measure}</text>'
    yield f'<text class="label small" x="{LABELS - 6}" y="{AXIS + 25}">0 to {line.highest_tkv}</text>'


def _tkv_line(stretches: Sequence[Stretch], scale: Scale, name: str) -> str:
    points = []
    for stretch in stretches:
        for step, at in ((stretch.first, stretch.first), (stretch.last, stretch.last + 1)):
            y = AXIS + TKV - stretch.tkv_at(step) * (TKV - 4) / scale.tkv
            points.append(f"{place(scale.x(at))},{place(y)}")
    return f'<polyline class="{name}" points="{" ".join(points)}"/>' if points else ""


def _outline(wanted: Sequence[Stretch], sequence: int, bottom: float, scale: Scale) -> str:
    """Return the SVG path of a dashed line at the height of the sequence's bar in the expected time-line."""
    path = "".join(
        f"M{place(scale.x(s.first))} {place(bottom - scale.up(s.bars[sequence].top))}H{place(scale.x(s.last + 1))}"
        for s in wanted
        if sequence in s.bars
    )
    return f'<path class="wanted" d="{path}"/>' if path else ""


def _between(stretches: Sequence[Stretch], first: int, last: int) -> Iterator[Stretch]:
    """Yield the parts of the stretches that are between the steps ``first`` and ``last``, both inclusive."""
    for s in stretches:
        if s.first <= last and s.last >= first:
            begin = max(first, s.first)
            row = s.row._replace(step=begin, tkv=s.tkv_at(begin))
            yield replace(s, row=row, last=min(last, s.last), bars=s.bars_at(begin))


def _bands(apart: Sequence[tuple[int, int]], scale: Scale, height: float) -> Iterator[str]:
    for first, last in apart:
        x, width = scale.x(first), (last + 1 - first) * scale.step
        yield f'<rect class="differs" x="{place(x)}" y="16" width="{place(width)}" height="{place(height - 18)}"/>'


def _hovers(line: TimeLine, scale: Scale, height: float) -> Iterator[str]:
    for stretch in line.stretches:
        words = escape("\n".join(described(stretch, own_tkv=line.drawing.takes_turns)))
        x, width = place(scale.x(stretch.first)), place(stretch.steps * scale.step)
        yield f'<rect class="hover" x="{x}" width="{width}" height="{place(height)}"><title>{words}</title></rect>'
