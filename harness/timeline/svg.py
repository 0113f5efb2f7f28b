"""A time-line as SVG: a lane a sequence, time to the right, what it holds stacked upwards in tokens.

Nothing is told by colour alone: padding is hatched, what is reserved and not used is empty, prefills have letters, and
every stretch of steps has its numbers as a title, which browsers show on hover and screen readers read.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape
from importlib.resources import files

from harness.timeline.lanes import LABELS, LANE, PARTS, Scale, lane, place
from harness.timeline.model import Bar, Stretch, TimeLine

DRAWN = 860
AXIS, TKV, GAP = 30, 44, 8
MOST_PER_STEP = 24.0
NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
NAMES = ("left padding", "prompt", "generated", "right padding", "reserved, not used")
LEGEND = 24


def as_svg(line: TimeLine, expected: TimeLine | None = None, *, alone: bool = True, title: str = "Time-line") -> str:
    """The picture of a run; ``expected`` is overlaid where it differs.

    ``alone``: with its own style and legend, for a file. A page has them once for all its pictures (``style``,
    ``patterns``, ``legend``).
    """
    both = [line, *([expected] if expected else [])]
    apart = list(steps_apart(line, expected)) if expected else []
    scale = Scale(
        min(MOST_PER_STEP, DRAWN / (max(each.last_step for each in both) + 1)),
        max(each.widest for each in both),
        max(1, *[each.highest_tkv for each in both]),
    )
    lanes = [AXIS + TKV + GAP + i * (LANE + GAP) + LANE for i in range(len(line.sizes))]
    width, height = LABELS + DRAWN + 8, AXIS + TKV + GAP + len(lanes) * (LANE + GAP) + 4
    parts = [*_axis(line, scale), *_bands(apart, scale, height), _tkv_line(line.stretches, scale, "tkv")]
    for sequence, bottom in enumerate(lanes):
        parts += lane(line, sequence, bottom, scale)
    for first, last in apart:
        assert expected is not None
        wanted = list(_between(expected.stretches, first, last))
        parts.append(_tkv_line(wanted, scale, "wanted"))
        parts += [_outline(wanted, sequence, bottom, scale) for sequence, bottom in enumerate(lanes)]
    parts += _hovers(line, scale, height)
    if alone:
        parts = [f"<style>{style()}</style>", f"<defs>{patterns()}</defs>", *parts, *_legend(height)]
    whole = height + (LEGEND if alone else 0)
    opening = f'<svg class="timeline"{NAMESPACE if alone else ""} viewBox="0 0 {width} {whole}" role="img">'
    return "\n".join([opening, f"<title>{escape(title)}</title>", *filter(None, parts), "</svg>"])


@lru_cache(maxsize=1)
def style() -> str:
    """How the parts look, in light and dark; for the page that holds pictures, or for one alone."""
    return files("harness.timeline").joinpath("timeline.css").read_text(encoding="utf-8").strip()


def legend() -> str:
    """What the fillings mean, as a picture of its own for a page with many time-lines."""
    opening = f'<svg class="timeline" viewBox="0 0 {LABELS + DRAWN + 8} 20" role="img">'
    return "\n".join([opening, "<title>What the fillings of time-lines mean</title>", *_legend(0), "</svg>"])


def _legend(top: float) -> Iterator[str]:
    """What the fillings mean, in a line below the picture."""
    x = float(LABELS)
    for name, words in (*zip(PARTS, NAMES, strict=True), ("wanted", "expected, where it differs")):
        if name == "wanted":
            yield f'<path class="wanted" d="M{place(x)} {place(top + 9)}h14"/>'
        else:
            yield f'<rect class="{name}" x="{place(x)}" y="{place(top + 3)}" width="14" height="11"/>'
        yield f'<text x="{place(x + 19)}" y="{place(top + 13)}">{words}</text>'
        x += 34 + 6.2 * len(words)


def patterns() -> str:
    """The hatchings, which a page defines once."""
    return "".join(
        f'<pattern id="tl-{name}" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate({turn})">'
        f'<rect class="{name}-ground" width="5" height="5"/><path class="{name}-line" d="M0 0V5"/></pattern>'
        for name, turn in (("left", 45), ("right", -45))
    )


def _axis(line: TimeLine, scale: Scale) -> Iterator[str]:
    """Step numbers where something happens, and a letter for what each stretch is."""
    free = 0.0
    for stretch in line.stretches:
        x = scale.x(stretch.first)
        if x >= free:
            yield f'<text class="number" x="{place(x)}" y="11">{stretch.first}</text>'
            free = x + 7 * len(str(stretch.first)) + 8
        kind, width = stretch.row.kind, stretch.steps * scale.step
        yield f'<rect class="kind {kind}" x="{place(x)}" y="16" width="{place(width)}" height="10"/>'
        if kind in ("prefill", "idle") and scale.step >= 5:
            yield f'<text class="letter" x="{place(x + width / 2)}" y="24">{kind[0].upper()}</text>'
    yield f'<text class="label" x="{LABELS - 6}" y="24">step</text>'
    yield f'<text class="label" x="{LABELS - 6}" y="{AXIS + 12}">tkv</text>'
    yield f'<text class="label small" x="{LABELS - 6}" y="{AXIS + 25}">0 to {line.highest_tkv}</text>'


def _tkv_line(stretches: Sequence[Stretch], scale: Scale, name: str) -> str:
    points = []
    for stretch in stretches:
        for step, at in ((stretch.first, stretch.first), (stretch.last, stretch.last + 1)):
            y = AXIS + TKV - stretch.tkv_at(step) * (TKV - 4) / scale.tkv
            points.append(f"{place(scale.x(at))},{place(y)}")
    return f'<polyline class="{name}" points="{" ".join(points)}"/>' if points else ""


def _outline(wanted: Sequence[Stretch], sequence: int, bottom: float, scale: Scale) -> str:
    """How far up the blocks of a sequence go in the expected run, dashed over the observed one."""
    path = "".join(
        f"M{place(scale.x(s.first))} {place(bottom - scale.up(s.bars[sequence].held))}H{place(scale.x(s.last + 1))}"
        for s in wanted
        if sequence in s.bars
    )
    return f'<path class="wanted" d="{path}"/>' if path else ""


def _between(stretches: Sequence[Stretch], first: int, last: int) -> Iterator[Stretch]:
    """Stretches cut to the steps from ``first`` to ``last``."""
    for s in stretches:
        if s.first <= last and s.last >= first:
            begin = max(first, s.first)
            yield Stretch(s.row._replace(step=begin, tkv=s.tkv_at(begin)), min(last, s.last), s.bars_at(begin))


def _bands(apart: Sequence[tuple[int, int]], scale: Scale, height: float) -> Iterator[str]:
    for first, last in apart:
        x, width = scale.x(first), (last + 1 - first) * scale.step
        yield f'<rect class="differs" x="{place(x)}" y="16" width="{place(width)}" height="{place(height - 18)}"/>'


def steps_apart(line: TimeLine, expected: TimeLine) -> Iterator[tuple[int, int]]:
    """Runs of steps, each as its first and last, at which the two do not show the same."""
    first = None
    end = max(line.last_step, expected.last_step)
    for step in range(end + 2):
        same = step > end or _seen(line, step) == _seen(expected, step)
        if not same and first is None:
            first = step
        if same and first is not None:
            yield first, step - 1
            first = None


def _seen(line: TimeLine, step: int) -> object:
    stretch = line.at(step)
    if stretch is None:
        return None
    blocks = stretch.row.reserved or 0, stretch.row.used or 0
    return stretch.tkv_at(step), stretch.row.outputs, stretch.row.waiting, stretch.row.finished, blocks


def _hovers(line: TimeLine, scale: Scale, height: float) -> Iterator[str]:
    for stretch in line.stretches:
        words = escape("\n".join(described(stretch)))
        x, width = place(scale.x(stretch.first)), place(stretch.steps * scale.step)
        yield f'<rect class="hover" x="{x}" width="{width}" height="{place(height)}"><title>{words}</title></rect>'


def described(stretch: Stretch) -> Iterator[str]:
    """The numbers of a stretch in words: one line about all, and one about each sequence that holds blocks."""
    steps = f"step {stretch.first}" if stretch.steps == 1 else f"steps {stretch.first} to {stretch.last}"
    outputs = f" of {' '.join(map(str, stretch.row.outputs))}" if stretch.row.outputs else ""
    tkv = _range(stretch.row.tkv, stretch.tkv_at(stretch.last))
    blocks = "" if stretch.row.used is None else f", {stretch.row.used} blocks used, {stretch.row.reserved} reserved"
    yield f"{steps}: {stretch.row.kind}{outputs}, tkv {tkv}{blocks}"
    last = stretch.bars_at(stretch.last)
    for sequence, bar in stretch.bars.items():
        yield f"{sequence}: {_in_words(bar, last[sequence])}{', ends' if sequence in stretch.row.finished else ''}"
    if stretch.row.waiting:
        yield f"waiting: {' '.join(map(str, stretch.row.waiting))}"


def _in_words(first: Bar, last: Bar) -> str:
    pairs = zip(NAMES, first, last, strict=True)
    return ", ".join(f"{name} {_range(begin, end)}" for name, begin, end in pairs if begin or end)


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
