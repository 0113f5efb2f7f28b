"""Prepare the output of a request for the HTML page, with the output of Hugging Face transformers for comparison."""

from dataclasses import dataclass
from itertools import zip_longest

from markupsafe import Markup

from harness.report.outcomes import Record, beginning, shortened
from harness.report.token_plot import token_plot

MAX_OUTPUT = 2_000
MAX_EQUAL_OUTPUT = 60

TEXTS = ("Hugging Face: ", "engine: ")
"""How the lines with the engine's and the reference's output begin in a verdict's details.

The page leaves these lines out, because it shows the two outputs next to each other.
"""


@dataclass(frozen=True)
class Output:
    """The output of one request, compared with the output of Hugging Face transformers.

    ``tokens`` is text that says how many tokens are equal. ``same`` is the common beginning of the two outputs.
    ``engine`` is the text that follows it in the engine's output, ``reference`` that in Hugging Face's output.
    """

    tokens: str
    same: str
    engine: str
    reference: str
    equal: bool
    plot: Markup


def output_view(data: Record) -> Output:
    """Return the comparison of two outputs for the page.

    ``data`` is the field ``data`` of a verdict, with the keys ``text`` and ``reference_text``.
    """
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
