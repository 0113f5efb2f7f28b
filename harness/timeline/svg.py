"""A time-line as SVG: a lane a sequence, time to the right, what it holds stacked upwards in tokens.

Nothing is told by colour alone: padding is hatched, what is reserved is an outline, prefills and decodes have letters,
and every stretch of steps has its numbers as a title, which browsers show on hover and screen readers read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape
from importlib.resources import files

from harness.timeline.model import BLOCK_SIZE, Bar, Stretch, TimeLine

LABELS = 96
DRAWN = 860
AXIS, TKV, LANE, GAP = 30, 44, 46, 8
MOST_PER_STEP = 24.0
PARTS = ("left", "prompt", "made", "right", "unused")
"""Classes of what a bar is made of, in its order; timeline.css says how they look."""
NAMES = ("left padding", "prompt", "generated", "right padding", "reserved, not used")
LEGEND = 24


@dataclass(frozen=True)
class _Scale:
    """From steps and tokens to places. A step is ``step`` wide; ``height`` is of a lane, for ``tokens`` tokens."""

    step: float
    tokens: int
    tkv: int

    def x(self, step: float) -> float:
        return LABELS + step * self.step

    def up(self, tokens: float) -> float:
        return tokens * LANE / self.tokens


def as_svg(line: TimeLine, expected: TimeLine | None = None, *, alone: bool = True, title: str = "Time-line") -> str:
    """The picture of a run; ``expected`` is overlaid where it differs.

    ``alone``: with its own style and legend, for a file. A page has them once for all its pictures (``style``,
    ``patterns``, ``legend``).
    """
    both = [line, *([expected] if expected else [])]
    apart = list(steps_apart(line, expected)) if expected else []
    scale = _Scale(
        min(MOST_PER_STEP, DRAWN / (max(each.last_step for each in both) + 1)),
        max(each.widest for each in both),
        max(1, *[each.highest_tkv for each in both]),
    )
    lanes = [AXIS + TKV + GAP + i * (LANE + GAP) + LANE for i in range(len(line.sizes))]
    width, height = LABELS + DRAWN + 8, AXIS + TKV + GAP + len(lanes) * (LANE + GAP) + 4
    parts = [*_axis(line, scale), *_bands(apart, scale, height), _tkv_line(line.stretches, scale, "tkv")]
    for sequence, bottom in enumerate(lanes):
        parts += _lane(line, sequence, bottom, scale)
    for first, last in apart:
        assert expected is not None
        wanted = list(_between(expected.stretches, first, last))
        parts.append(_tkv_line(wanted, scale, "wanted"))
        parts += [_outline(wanted, sequence, bottom, scale) for sequence, bottom in enumerate(lanes)]
    parts += _hovers(line, scale, height)
    if alone:
        parts = [f"<style>{style()}</style>", f"<defs>{patterns()}</defs>", *parts, *_legend(height)]
    whole = height + (LEGEND if alone else 0)
    opening = f'<svg class="timeline" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}" role="img">'
    return "\n".join([opening, f"<title>{escape(title)}</title>", *filter(None, parts), "</svg>"])


@lru_cache(maxsize=1)
def style() -> str:
    """How the parts look, in light and dark; for the page that holds pictures, or for one alone."""
    return files("harness.timeline").joinpath("timeline.css").read_text(encoding="utf-8").strip()


def _legend(top: float) -> Iterator[str]:
    """What the fillings mean, in a line below the picture."""
    x = float(LABELS)
    for name, words in (*zip(PARTS, NAMES, strict=True), ("wanted", "expected, where it differs")):
        if name == "wanted":
            yield f'<path class="wanted" d="M{_n(x)} {_n(top + 9)}h14"/>'
        else:
            yield f'<rect class="{name}" x="{_n(x)}" y="{_n(top + 3)}" width="14" height="11"/>'
        yield f'<text x="{_n(x + 19)}" y="{_n(top + 13)}">{words}</text>'
        x += 34 + 6.2 * len(words)


def patterns() -> str:
    """The hatchings, which a page defines once."""
    return "".join(
        f'<pattern id="tl-{name}" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate({turn})">'
        f'<rect class="{name}-ground" width="5" height="5"/><path class="{name}-line" d="M0 0V5"/></pattern>'
        for name, turn in (("left", 45), ("right", -45))
    )


def _axis(line: TimeLine, scale: _Scale) -> Iterator[str]:
    """Step numbers where something happens, and a letter for what each stretch is."""
    free = 0.0
    for stretch in line.stretches:
        x = scale.x(stretch.first)
        if x >= free:
            yield f'<text class="number" x="{_n(x)}" y="11">{stretch.first}</text>'
            free = x + 7 * len(str(stretch.first)) + 8
        kind, width = stretch.kind, stretch.steps * scale.step
        yield f'<rect class="kind {kind}" x="{_n(x)}" y="16" width="{_n(width)}" height="10"/>'
        if kind in ("prefill", "idle") and scale.step >= 5:
            yield f'<text class="letter" x="{_n(x + width / 2)}" y="24">{kind[0].upper()}</text>'
    yield f'<text class="label" x="{LABELS - 6}" y="24">step</text>'
    yield f'<text class="label" x="{LABELS - 6}" y="{AXIS + 12}">tkv</text>'
    yield f'<text class="label small" x="{LABELS - 6}" y="{AXIS + 25}">0 to {line.highest_tkv}</text>'


def _tkv_line(stretches: Sequence[Stretch], scale: _Scale, name: str) -> str:
    points = []
    for stretch in stretches:
        for step, at in ((stretch.first, stretch.first), (stretch.last, stretch.last + 1)):
            y = AXIS + TKV - stretch.tkv_at(step) * (TKV - 4) / scale.tkv
            points.append(f"{_n(scale.x(at))},{_n(y)}")
    return f'<polyline class="{name}" points="{" ".join(points)}"/>' if points else ""


def _lane(line: TimeLine, sequence: int, bottom: float, scale: _Scale) -> Iterator[str]:
    size = line.sizes[sequence]
    yield f'<text class="label" x="{LABELS - 6}" y="{_n(bottom - LANE / 2)}">{sequence}</text>'
    words = f"{size.prompt_length} + {size.max_tokens}"
    yield f'<text class="label small" x="{LABELS - 6}" y="{_n(bottom - LANE / 2 + 13)}">{words}</text>'
    yield f'<path class="ground" d="M{LABELS} {_n(bottom)}H{_n(scale.x(line.last_step + 1))}"/>'
    for first, last in _waits(line.stretches, sequence):
        yield f'<path class="waits" d="M{_n(scale.x(first))} {_n(bottom - 6)}H{_n(scale.x(last + 1))}"/>'
    for stretch in line.stretches:
        if sequence in stretch.bars:
            yield from _stack(stretch, sequence, bottom, scale)
        if sequence in stretch.finished:
            x = scale.x(stretch.last + 1)
            yield f'<path class="ends" d="M{_n(x)} {_n(bottom)}v{-LANE}"/>'


def _stack(stretch: Stretch, sequence: int, bottom: float, scale: _Scale) -> Iterator[str]:
    """What one sequence holds in one stretch: a trapezoid a part, and the borders of its blocks."""
    begin, end = stretch.bars[sequence], stretch.bars_at(stretch.last)[sequence]
    left, right = scale.x(stretch.first), scale.x(stretch.last + 1)
    low_begin = low_end = 0
    for name, at_begin, at_end in zip(PARTS, begin, end, strict=True):
        if at_begin or at_end:
            ys = [bottom - scale.up(v) for v in (low_begin, low_begin + at_begin, low_end + at_end, low_end)]
            yield f'<path class="{name}" d="M{_n(left)} {_n(ys[0])}V{_n(ys[1])}L{_n(right)} {_n(ys[2])}V{_n(ys[3])}z"/>'
        low_begin, low_end = low_begin + at_begin, low_end + at_end
    borders = "".join(
        f"M{_n(left)} {_n(bottom - scale.up(tokens))}H{_n(right)}"
        for tokens in range(BLOCK_SIZE, begin.held + 1, BLOCK_SIZE)
    )
    if borders:
        yield f'<path class="border" d="{borders}"/>'


def _waits(stretches: Sequence[Stretch], sequence: int) -> Iterator[tuple[int, int]]:
    """The stretches of steps in which it waits, each as its first and last step."""
    first = None
    for stretch in stretches:
        waiting = sequence in stretch.waiting
        if waiting and first is None:
            first = stretch.first
        if not waiting and first is not None:
            yield first, stretch.first - 1
            first = None
    if first is not None:
        yield first, stretches[-1].last


def _outline(wanted: Sequence[Stretch], sequence: int, bottom: float, scale: _Scale) -> str:
    """How far up the blocks of a sequence go in the expected run, dashed over the observed one."""
    path = "".join(
        f"M{_n(scale.x(s.first))} {_n(bottom - scale.up(s.bars[sequence].held))}H{_n(scale.x(s.last + 1))}"
        for s in wanted
        if sequence in s.bars
    )
    return f'<path class="wanted" d="{path}"/>' if path else ""


def _between(stretches: Sequence[Stretch], first: int, last: int) -> Iterator[Stretch]:
    """Stretches cut to the steps from ``first`` to ``last``."""
    for s in stretches:
        if s.first <= last and s.last >= first:
            begin = max(first, s.first)
            yield replace(s, first=begin, last=min(last, s.last), tkv=s.tkv_at(begin), bars=s.bars_at(begin))


def _bands(apart: Sequence[tuple[int, int]], scale: _Scale, height: float) -> Iterator[str]:
    for first, last in apart:
        x, width = scale.x(first), (last + 1 - first) * scale.step
        yield f'<rect class="differs" x="{_n(x)}" y="16" width="{_n(width)}" height="{_n(height - 18)}"/>'


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
    blocks = stretch.reserved or 0, stretch.used or 0
    return stretch.tkv_at(step), stretch.outputs, stretch.waiting, stretch.finished, blocks


def _hovers(line: TimeLine, scale: _Scale, height: float) -> Iterator[str]:
    for stretch in line.stretches:
        place = f'x="{_n(scale.x(stretch.first))}" y="0" width="{_n(stretch.steps * scale.step)}" height="{_n(height)}"'
        words = escape("\n".join(described(stretch)))
        yield f'<rect class="hover" {place}><title>{words}</title></rect>'


def described(stretch: Stretch) -> Iterator[str]:
    """The numbers of a stretch in words: one line about all, and one about each sequence that holds blocks."""
    steps = f"step {stretch.first}" if stretch.steps == 1 else f"steps {stretch.first} to {stretch.last}"
    outputs = f" of {' '.join(map(str, stretch.outputs))}" if stretch.outputs else ""
    tkv = _range(stretch.tkv, stretch.tkv_at(stretch.last))
    blocks = "" if stretch.used is None else f", {stretch.used} blocks used, {stretch.reserved} reserved"
    yield f"{steps}: {stretch.kind}{outputs}, tkv {tkv}{blocks}"
    last = stretch.bars_at(stretch.last)
    for sequence, bar in stretch.bars.items():
        yield f"{sequence}: {_in_words(bar, last[sequence])}{', ends' if sequence in stretch.finished else ''}"
    if stretch.waiting:
        yield f"waiting: {' '.join(map(str, stretch.waiting))}"


def _in_words(first: Bar, last: Bar) -> str:
    pairs = zip(NAMES, first, last, strict=True)
    return ", ".join(f"{name} {_range(begin, end)}" for name, begin, end in pairs if begin or end)


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _n(value: float) -> str:
    """A coordinate, as short as half a pixel allows."""
    return f"{value:.1f}".removesuffix(".0")
