"""Format the text that pytest shows for a failed test: the case, the failed checks, and how to bless the case."""

from collections.abc import Sequence

from harness.suites.expand import Expanded
from harness.suites.schema import StepsCase
from harness.timeline import as_text, first_of, legend_of
from harness.types import Verdict, failures


def failure_text(expanded: Expanded, verdicts: Sequence[Verdict], place: str, bless_command: str) -> str:
    """Return the text that pytest shows for a failed test: the case and all failed verdicts.

    ``place`` is the file and line of the case. ``bless_command`` is shown if writing the observed steps as the new
    golden table could make the test pass.
    """
    case, lines = expanded.case, _head(expanded, place)
    for verdict in failures(verdicts):
        lines.extend(["", verdict.headline])
        if verdict.details:
            lines.extend(["", *(f"  {line}".rstrip() for line in verdict.details), ""])
        if verdict.rule:
            lines.append(f"rule: {verdict.rule}")
    passed = len(verdicts) - len(failures(verdicts))
    if passed:
        lines.append(f"({passed} of {len(verdicts)} checks of this case passed)")
    golden = isinstance(case, StepsCase) and case.expect.steps == "golden"
    if golden and all(verdict.data.get("blessable") for verdict in failures(verdicts)):
        lines.append(f"to accept what the engine did:  {bless_command}")
    return "\n".join(lines)


def picture_text(verdicts: Sequence[Verdict], width: int) -> str:
    """Return the observed steps as a text time-line, then the expected steps if they differ.

    ``width`` is in characters. The text is empty if the verdicts have no steps.
    """
    drawn = first_of(verdict.data for verdict in verdicts)
    if drawn is None:
        return ""
    seen, expected = drawn
    lines = ["", "", "observed:", *as_text(seen, width)]
    if expected is not None:
        lines += ["expected:", *as_text(expected, width)]
    return "\n".join([*lines, *legend_of(seen)])


def broken_text(expanded: Expanded, place: str, what: str, more: Sequence[str]) -> str:
    """Return the text that pytest shows for a test that was stopped by an error before it had any verdict.

    ``what`` is a sentence that describes the error. ``more`` are lines to add, such as a traceback. ``place`` is the
    file and line of the case.
    """
    return "\n".join([*_head(expanded, place), "", what, *more])


def _head(expanded: Expanded, place: str) -> list[str]:
    case = expanded.case
    head = "  ".join([*case.requirement, case.id, f"[{expanded.configuration.label}]"])
    return [f"{head}      {place}", *([case.about] if case.about else []), case.described()]


class CaseFailedError(Exception):
    """A test has failed verdicts.

    ``headline`` is the headline of the first failed verdict. The message is the text about all failed verdicts.
    """

    def __init__(self, headline: str, text: str) -> None:
        super().__init__(text)
        self.headline = headline
