"""Describe the stretches of a time-line in words, for tooltips and screen readers."""

from collections.abc import Iterator, Sequence

from harness.schedulers.bars import Bar, Shared, Stretch

PART_NAMES = ("left padding", "found in the cache", "prompt", "generated", "right padding", "reserved, not used")
"""The name of each part of a bar, in the order of ``Bar.parts``."""


def described(stretch: Stretch, *, own_tkv: bool) -> Iterator[str]:
    """Yield lines of text: one about the stretch as a whole, then one about each sequence that holds blocks.

    Further lines name preempted and waiting requests. A value that changes within the stretch is shown as ``A to B``.
    ``own_tkv`` is whether each request has its own tkv.
    """
    steps = f"step {stretch.first}" if stretch.steps == 1 else f"steps {stretch.first} to {stretch.last}"
    yield f"{steps}: {_kind(stretch)}, {_size(stretch)}{_blocks(stretch)}"
    last = stretch.bars_at(stretch.last)
    for sequence, bar in stretch.bars.items():
        parts = [_in_words(bar, last[sequence]), *_shared(stretch.shared.get(sequence, ()))]
        if own_tkv and sequence in stretch.decodes and not stretch.by_tokens:
            parts.insert(0, f"tkv {_range(_tkv(bar), _tkv(last[sequence]))}")
        if sequence in (stretch.row.paused or ()):
            parts.insert(0, "paused")
        if sequence in stretch.row.finished:
            parts.append("ends")
        yield f"{sequence}: {', '.join(parts)}"
    if stretch.row.preempted:
        yield f"preempted: {' '.join(map(str, stretch.row.preempted))}"
    if stretch.row.waiting:
        yield f"waiting: {' '.join(map(str, stretch.row.waiting))}"


def _size(stretch: Stretch) -> str:
    """Return tkv as text or, for the token-budget scheduler, how many tokens a step computes, in all and by request."""
    if not stretch.by_tokens:
        return f"tkv {_range(stretch.row.tkv_or_0, stretch.tkv_at(stretch.last))}"
    return f"{stretch.tkv_at(stretch.first)} tokens" + (f" ({stretch.computed})" if stretch.computed else "")


def _blocks(stretch: Stretch) -> str:
    if stretch.row.used is None:
        return ""
    reserved = "" if stretch.row.reserved is None else f", {stretch.row.reserved} reserved"
    return f", {stretch.row.used} blocks used{reserved}"


def _kind(stretch: Stretch) -> str:
    if stretch.chunk is not None:
        number, chunks = stretch.chunk
        return f"chunk {number} of {chunks} of {stretch.prefilled}"
    outputs = f" of {' '.join(map(str, stretch.row.outputs))}" if stretch.row.outputs else ""
    return f"{stretch.row.kind}{outputs}"


def _tkv(bar: Bar) -> int:
    """Return the tkv of a decoding request: the number of its left-padding positions plus its tokens."""
    return bar.top - bar.right_padding


def _in_words(first: Bar, last: Bar) -> str:
    pairs = zip(PART_NAMES, first.parts, last.parts, strict=True)
    return ", ".join(f"{name} {_range(begin, end)}" for name, begin, end in pairs if begin or end)


def _shared(runs: Sequence[Shared]) -> Iterator[str]:
    for first, last, others in runs:
        which = f"block {first}" if first == last else f"blocks {first}–{last}"
        yield f"{which} shared with {' and '.join(map(str, others))}"


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
