"""Draw the parts of a lane that only some schedulers have: pauses, preemptions, shared blocks, and tkv per request."""

from collections.abc import Iterator, Mapping, Sequence

from harness.schedulers.bars import Stretch
from harness.timeline.lanes import LABELS, Scale, place, spans
from harness.timeline.model import TimeLine

SMALLEST_LETTER = 7
"""Minimum width of an area in which a letter is drawn, in pixels."""


def groups(line: TimeLine) -> dict[tuple[int, ...], str]:
    """Return a letter for each group of requests that share a block.

    The keys are the numbers of the requests of a group, in ascending order.
    """
    found: dict[tuple[int, ...], str] = {}
    for stretch in line.stretches:
        for sequence, runs in stretch.shared.items():
            for run in runs:
                found.setdefault(_together(sequence, run.others), _letter(len(found)))
    return found


def turns(
    line: TimeLine, sequence: int, bottom: int, scale: Scale, letters: Mapping[tuple[int, ...], str]
) -> Iterator[str]:
    """Yield the SVG elements that are drawn over the lane of one sequence, such as pauses and shared blocks.

    ``letters`` has the letter of each group of requests that share a block. ``bottom`` is the y coordinate of the
    bottom of the lane.
    """
    low = bottom + 3
    kinds = {
        "chunk": lambda stretch: sequence in stretch.prefills,
        "turn": lambda stretch: sequence in stretch.decodes,
    }
    for name, holds in kinds.items():
        path = "".join(f"M{place(scale.x(a))} {low}H{place(scale.x(b + 1))}" for a, b in spans(line.stretches, holds))
        if path:
            yield f'<path class="{name}" d="{path}"/>'
    yield from _shared_areas(line.stretches, sequence, bottom, scale, letters)
    if line.drawing.measure == "tkv":
        yield _own_tkv(line.stretches, sequence, bottom, scale)
    yield from _pauses(line.stretches, sequence, bottom, scale)
    yield _preemptions(line.stretches, sequence, bottom, scale, "lost")
    known = [f"{letter} with {_others(group, sequence)}" for group, letter in letters.items() if sequence in group]
    if known:
        y, words = place(bottom - scale.lane / 2 + 25), "; ".join(known)
        yield f'<text class="label small" x="{LABELS - 6}" y="{y}">{words}</text>'


def wanted_turns(wanted: Sequence[Stretch], sequence: int, bottom: int, scale: Scale) -> str:
    """Return the SVG elements for the steps of a sequence in the expected time-line.

    The elements are dashed lines below the lane for prefills and decodes, and signs in the lane for pauses and
    preemptions.
    """
    path = ""
    for stretch in wanted:
        left, right = scale.x(stretch.first), scale.x(stretch.last + 1)
        if sequence in stretch.decodes or sequence in stretch.prefills:
            path += f"M{place(left)} {bottom + 6}H{place(right)}"
        if sequence in (stretch.row.paused or ()):
            path += f"M{place((left + right) / 2 - 2)} {bottom - scale.lane + 2}v12m4 0v-12"
    lost = _preemptions(wanted, sequence, bottom, scale, "wanted")
    return (f'<path class="wanted" d="{path}"/>' if path else "") + lost


def _preemptions(stretches: Sequence[Stretch], sequence: int, bottom: int, scale: Scale, name: str) -> str:
    """Return an SVG path with a cross at each step in which the sequence is preempted."""
    lost = [stretch.first for stretch in stretches if sequence in (stretch.row.preempted or ())]
    middle = bottom - scale.lane // 2
    path = "".join(f"M{place(scale.x(step))} {middle - 5}l10 10m0 -10l-10 10" for step in lost)
    return f'<path class="{name}" d="{path}"/>' if path else ""


def _pauses(stretches: Sequence[Stretch], sequence: int, bottom: int, scale: Scale) -> Iterator[str]:
    """Yield the SVG elements of each pause: the blocks of the sequence in a pale colour, and the sign for a pause."""
    for first, last in spans(stretches, lambda stretch: sequence in (stretch.row.paused or ())):
        stretch = next(s for s in stretches if s.first == first)
        bar = stretch.bars.get(sequence)
        x, width, tall = scale.x(first), (last + 1 - first) * scale.step, scale.up(bar.top if bar else 0)
        where = f'x="{place(x)}" y="{place(bottom - tall)}" width="{place(width)}"'
        yield f'<rect class="pales" {where} height="{place(tall)}"/>'
        middle, y = x + width / 2, bottom - min(tall, scale.lane) / 2 - 5
        yield f'<path class="paused" d="M{place(middle - 2)} {place(y)}v10m4 0v-10"/>'


def _shared_areas(
    stretches: Sequence[Stretch], sequence: int, bottom: int, scale: Scale, letters: Mapping[tuple[int, ...], str]
) -> Iterator[str]:
    """Yield the SVG elements for the shared blocks of a sequence: cross-hatched areas with a letter.

    ``letters`` has the letter of each group of requests that share a block.
    """
    area: list[tuple[int, int, float, float, str]] = []
    open_areas: dict[tuple[float, float, str], int] = {}
    for stretch in stretches:
        now: dict[tuple[float, float, str], int] = {}
        for run in stretch.shared.get(sequence, ()):
            indent = stretch.bars[sequence].indent
            begin, end = indent + run.first * scale.block, indent + (run.last + 1) * scale.block
            key = (scale.up(begin), scale.up(end), letters[_together(sequence, run.others)])
            if key in open_areas:
                now[key] = open_areas[key]
                first, *_ = area[now[key]]
                area[now[key]] = (first, stretch.last, *key)
            else:
                now[key] = len(area)
                area.append((stretch.first, stretch.last, *key))
        open_areas = now
    for first, last, low, high, letter in area:
        left, wide, tall = scale.x(first), (last + 1 - first) * scale.step, high - low
        y = bottom - high
        yield f'<rect class="shared" x="{place(left)}" y="{place(y)}" width="{place(wide)}" height="{place(tall)}"/>'
        if wide >= SMALLEST_LETTER and tall >= SMALLEST_LETTER:
            yield f'<text class="who" x="{place(left + wide / 2)}" y="{place(y + tall / 2 + 3)}">{letter}</text>'


def _own_tkv(stretches: Sequence[Stretch], sequence: int, bottom: int, scale: Scale) -> str:
    """Return the SVG path of a line at the height of the sequence's tkv, for the decodes that include the sequence."""
    path = ""
    at: tuple[int, int] | None = None
    for stretch in stretches:
        if sequence not in stretch.decodes or sequence not in stretch.bars:
            at = None
            continue
        begin, end = stretch.bars[sequence], stretch.bars_at(stretch.last)[sequence]
        left, right = round(scale.x(stretch.first)), round(scale.x(stretch.last + 1))
        first = bottom - round(scale.up(begin.top - begin.right_padding))
        last = bottom - round(scale.up(end.top - end.right_padding))
        if at != (left, first):
            path += f"{'L' if at else 'M'}{left} {first}"
        path += f"L{right} {last}"
        at = right, last
    return f'<path class="own-tkv" d="{path}"/>' if path else ""


def _together(sequence: int, others: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted((sequence, *others)))


def _others(group: Sequence[int], sequence: int) -> str:
    return " ".join(str(other) for other in group if other != sequence)


def _letter(number: int) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number] if number < 26 else f"+{number - 25}"
