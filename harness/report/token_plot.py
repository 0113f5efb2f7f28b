"""Plot the logprobs of a request's tokens in the engine and in Hugging Face as lines, and their differences as bars.

Coordinates are whole numbers, and details that would not be visible are omitted, because a page can have thousands of
plots.
"""

from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise, zip_longest

from markupsafe import Markup

from harness.report.outcomes import Record

WIDTH, LINES, BARS, LEFT = 640, 64, 28, 84
MAX_PER_TOKEN = 16

Pair = tuple[float | None, float | None]
"""The logprob of a token in the engine, and that in Hugging Face. A logprob is None if it is not known."""


def token_plot(data: Record) -> Markup:
    """Return the plot of a request's logprobs as SVG. ``data`` is the field ``data`` of the verdict about the request.

    If any token is wrong, all tokens of the plot have tooltips with their logprobs. Return "" if there are no logprobs.
    """
    pairs: list[Pair] = list(zip_longest(data.get("logprobs") or [], data.get("reference_logprobs") or []))
    values = [value for pair in pairs for value in pair if value is not None]
    if not values:
        return Markup("")
    step = max(1, min(MAX_PER_TOKEN, WIDTH // len(pairs)))
    lowest = min(-0.1, *values)
    apart = [abs(a - b) if a is not None and b is not None else 0.0 for a, b in pairs]
    largest = max(apart)
    different = _first_different(data.get("token_ids", ()), data.get("reference_token_ids", ()))
    height = LINES + BARS + 6
    seen, wanted = (_points([pair[i] for pair in pairs], step, lowest) for i in (0, 1))
    labels = ("logprob", 12), (f"0 to {lowest:.1f}", 25), ("difference", LINES + 18), (f"max {largest:.2g}", LINES + 30)
    parts = [
        f'<svg class="tokens" viewBox="0 0 {LEFT + WIDTH + 4} {height}" role="img">',
        f"<title>{escape(_words(largest, different, len(pairs)))}</title>",
        *(f'<text x="{LEFT - 6}" y="{y}">{escape(text)}</text>' for text, y in labels),
        *([f'<path class="parts" d="M{LEFT + different * step} 0V{height}"/>'] if different is not None else []),
        *([f'<path class="hf" d="{wanted}"/>'] if wanted and wanted != seen else []),
        *([f'<path class="engine" d="{seen}"/>'] if seen else []),
        _bars(apart, largest, step),
        *(_hovers(data, pairs, step, height) if data.get("wrong") else ()),
        "</svg>",
    ]
    return Markup("\n".join(filter(None, parts)))


def _words(largest: float, different: int | None, tokens: int) -> str:
    parted = "" if different is None else f"; the tokens differ from position {different}"
    return f"Logprobs of {tokens} tokens, at most {largest:.2g} apart{parted}"


def _first_different(seen: Sequence[int], wanted: Sequence[int]) -> int | None:
    return next((i for i, (a, b) in enumerate(zip_longest(seen, wanted)) if a != b), None)


def _points(values: Sequence[float | None], step: int, lowest: float) -> str:
    """Return an SVG path through the values that are not None, from left to right.

    Each point is relative to the one before, which keeps the path short.
    """
    ys = [round(value / lowest * (LINES - 4)) + 2 for value in values if value is not None]
    if not ys:
        return ""
    return f"M{LEFT + step // 2} {ys[0]}l" + " ".join(f"{step} {after - before}" for before, after in pairwise(ys))


def _bars(apart: Sequence[float], largest: float, step: int) -> str:
    if not largest:
        return ""
    heights = [round(each / largest * BARS) for each in apart]
    path = "".join(f"v{-height}m{step} {height}" if height else f"m{step} 0" for height in heights)
    return f'<path class="apart" stroke-width="{max(1, step // 2)}" d="M{LEFT + step // 2} {LINES + BARS + 4}{path}"/>'


def _hovers(data: Record, pairs: Sequence[Pair], step: int, height: int) -> Iterator[str]:
    ids = zip_longest(data.get("token_ids", ()), data.get("reference_token_ids", ()))
    for i, ((a, b), (seen, wanted)) in enumerate(zip(pairs, ids, strict=False)):
        words = f"token {i}: engine {_token(seen, a)}, Hugging Face {_token(wanted, b)}"
        place = f'x="{LEFT + i * step}" y="0" width="{step}" height="{height}"'
        yield f'<rect class="hover" {place}><title>{words}</title></rect>'


def _token(token: int | None, logprob: float | None) -> str:
    text = "nothing" if token is None else f"token id {token}"
    return text if logprob is None else f"{text} at {logprob:.5f}"
