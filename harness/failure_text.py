"""What a person reads when a test fails: which case, which step, the table, the rule, what to do."""

from collections.abc import Sequence

from harness.checks.verdict import Verdict, failures
from harness.expand import Expanded
from harness.schema import StepsCase


def failure_text(expanded: Expanded, verdicts: Sequence[Verdict], place: str, bless_command: str) -> str:
    """All failed verdicts of a test as text."""
    case = expanded.case
    head = "  ".join([*case.requirement, case.id, f"[{expanded.configuration.label}]"])
    lines = [f"{head}      {place}"]
    if case.about:
        lines.append(case.about)
    lines.append(case.described())
    for verdict in failures(verdicts):
        lines.extend(["", verdict.headline])
        if verdict.details:
            lines.extend(["", *(f"  {line}".rstrip() for line in verdict.details), ""])
        if verdict.rule:
            lines.append(f"rule: {verdict.rule}")
    passed = len(verdicts) - len(failures(verdicts))
    if passed:
        lines.append(f"({passed} of {len(verdicts)} checks of this case passed)")
    if isinstance(case, StepsCase) and case.expect.steps == "golden":
        lines.append(f"to accept what the engine did:  {bless_command}")
    return "\n".join(lines)
