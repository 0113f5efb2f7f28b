"""The style sheet, the patterns and the legend of SVG time-lines."""

from collections.abc import Collection, Iterator
from functools import lru_cache
from importlib.resources import files

from harness.schedulers import SPECS
from harness.timeline.lanes import LABELS, PARTS, place
from harness.timeline.spoken import PART_NAMES

ROW = 18
"""Height of a line of the legend, in pixels."""
_WORDS = dict(zip(PARTS, PART_NAMES, strict=True)) | {
    "shared": "shared with another (A, B, …)",
    "chunk": "a chunk",
    "turn": "a decode",
    "paused": "paused",
    "lost": "preempted",
    "waits": "waits",
    "wanted": "expected, where it differs",
}
_NOT_ALWAYS = frozenset[str]().union(*(scheduler.drawing.legend for scheduler in SPECS.values()))
"""Entries of the legend that only some schedulers have."""
_SHAPES = {
    "chunk": "M{x} {y}h14",
    "turn": "M{x} {y}h14",
    "paused": "M{x} {y}m5 -5v10m4 0v-10",
    "lost": "M{x} {y}m2 -5l10 10m0 -10l-10 10",
    "waits": "M{x} {y}h14",
    "wanted": "M{x} {y}h14",
}


@lru_cache(maxsize=1)
def style() -> str:
    """Return the style sheet of time-lines, for light and dark mode."""
    return files("harness.timeline").joinpath("timeline.css").read_text(encoding="utf-8").strip()


def patterns() -> str:
    """Return the SVG definitions of the hatching patterns. A page with time-lines must contain them exactly once."""
    return "".join(
        f'<pattern id="tl-{name}" width="{size}" height="{size}" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate({turn})"><rect class="{name}-ground" width="{size}" height="{size}"/>'
        f'<path class="{name}-line" d="M0 0V{size}"/></pattern>'
        for name, turn, size in (
            ("left", 45, 5),
            ("right", -45, 5),
            ("found", 90, 4),
            ("shared", 0, 6),
        )
    )


def legend_height(width: float, own: Collection[str]) -> int:
    """Return the height of the legend in pixels if its lines are ``width`` pixels wide.

    The entries that all schedulers share are always included. ``own`` has the names of further entries to include.
    """
    return ROW * (1 + max(line for _, _, line in _placed(width, own))) + 6


def legend_parts(top: float, width: float, own: Collection[str]) -> Iterator[str]:
    """Yield the SVG elements of the legend, arranged in lines of ``width`` pixels below the y coordinate ``top``.

    The legend has the entries that all schedulers have, and those in ``own`` (``Drawing.legend`` of a scheduler).
    """
    for name, x, line in _placed(width, own):
        y = top + line * ROW
        if name in _SHAPES:
            yield f'<path class="{name}" d="{_SHAPES[name].format(x=place(x), y=place(y + 9))}"/>'
        else:
            yield f'<rect class="{name}" x="{place(x)}" y="{place(y + 3)}" width="14" height="11"/>'
        yield f'<text x="{place(x + 19)}" y="{place(y + 13)}">{_WORDS[name]}</text>'


def _placed(width: float, own: Collection[str]) -> Iterator[tuple[str, float, int]]:
    """Yield (name, x coordinate, number of its line) for each entry of the legend.

    The lines are ``width`` pixels wide. The entries that all schedulers share are always included. ``own`` has the
    names of further entries to include.
    """
    x, line = float(LABELS), 0
    for name, words in _WORDS.items():
        if name in _NOT_ALWAYS and name not in own:
            continue
        needed = 34 + 6 * len(words)
        if x + needed > width and x > LABELS:
            x, line = float(LABELS), line + 1
        yield name, x, line
        x += needed
