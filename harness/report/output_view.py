"""Prepare the output of a request for the page, next to that of Hugging Face."""

from dataclasses import dataclass
from itertools import zip_longest

from markupsafe import Markup

from harness.report.outcomes import Record, beginning, shortened
from harness.report.token_plot import token_plot

MAX_OUTPUT = 2_000
MAX_EQUAL_OUTPUT = 60

TEXTS = ("Hugging Face: ", "engine: ")
"""Beginnings of the lines of a verdict that have the two texts. The page shows the texts side by side instead."""


@dataclass(frozen=True)
class Output:
    """The output of one request and that of Hugging Face.

    ``tokens`` is a text with the number of equal tokens. ``same`` is the common beginning of both texts. ``engine`` and
    ``reference`` are the rest of each.
    """

    tokens: str
    same: str
    engine: str
    reference: str
    equal: bool
    plot: Markup


def output_view(data: Record) -> Output:
    engine, reference = _on_one_line(data.get("text", "")), _on_one_line(data["reference_text"])
    seen, wanted = data.get("token_ids", ()), data.get("reference_token_ids", ())
    total = max(len(seen), len(wanted))
    equal = sum(a is not None and a == b for a, b in zip_longest(seen, wanted))
    if equal == total and engine == reference:
        return Output(f"all {total} tokens equal", beginning(engine, MAX_EQUAL_OUTPUT), "", "", True, token_plot(data))
    same = engine[: _same_characters(engine, reference)]
    return Output(
        f"{equal} of {total} tokens equal",
        shortened(same, MAX_OUTPUT),
        shortened(engine[len(same) :], MAX_OUTPUT),
        shortened(reference[len(same) :], MAX_OUTPUT),
        False,
        token_plot(data),
    )


def _on_one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _same_characters(one: str, other: str) -> int:
    different = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(different, min(len(one), len(other)))
