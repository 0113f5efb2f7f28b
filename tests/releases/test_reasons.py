"""Tests of the reasons for failures of releases: bugs that were fixed later, and entries of releases/reasons.yaml."""

from pathlib import Path

import pytest

from releases.bugs import Bug, read_bugs
from releases.kept import CaseResult, Kept, read_all
from releases.reasons import Reason, ReasonsError, read_reasons, reasons_of

OF_EACH_KIND = ("scheduler_steps/s/a", "output/s/a", "behaviour/s/a")


def release(name: str, **failed: str) -> Kept:
    """Return the kept results of a release. ``failed`` has the failure texts of cases ``output/s/CASE`` by CASE.

    The results also have a passed case of each kind.
    """
    cases = {case: CaseResult("passed", (), "") for case in OF_EACH_KIND}
    cases |= {f"output/s/{case}": CaseResult("failed", (), why) for case, why in failed.items()}
    return Kept(name, "", cases)


def test_every_failed_case_of_a_whole_run_has_a_reason() -> None:
    bugs, reasons = read_bugs(), read_reasons()
    whole = [kept for kept in read_all().values() if kept.is_whole]
    assert whole
    used = {why for kept in whole for why in reasons_of(kept, bugs, reasons).values()}
    assert {reason.why for reason in reasons} <= used, "a reason for which no case fails"


def test_a_bug_is_the_reason_before_the_release_that_mended_it() -> None:
    bug = Bug(7, "wrong", "2.2", "sendnn-inference-2.1", "sendnn-inference-2.2", ("output/s/b",))
    rule = Reason("another rule", ("output/s/*",))
    assert reasons_of(release("sendnn-inference-2.1", b="no"), [bug], [rule]) == {"output/s/b": "bug 7"}
    assert reasons_of(release("sendnn-inference-2.2", b="no"), [bug], [rule]) == {"output/s/b": "another rule"}


@pytest.mark.parametrize(
    ("reason", "explained"),
    [
        (Reason("w", ("output/s/b",)), True),
        (Reason("w", ("output/*/b",)), True),
        (Reason("w", ("output/s/c",)), False),
        (Reason("w", ("output/s/b",), first="vllm-spyre-1.4.3"), True),
        (Reason("w", ("output/s/b",), first="vllm-spyre-1.5.0"), False),
        (Reason("w", ("output/s/b",), before="sendnn-inference-2.0"), True),
        (Reason("w", ("output/s/b",), before="vllm-spyre-1.4.3"), False),
        (Reason("w", ("output/s/b",), scheduler="chunked"), True),
        (Reason("w", ("output/s/b",), scheduler="continuous"), False),
        (Reason("w", ("output/s/b",), says="step . differs"), True),
        (Reason("w", ("output/s/b",), says="request"), False),
    ],
)
def test_a_reason_is_limited(reason: Reason, explained: bool) -> None:
    kept = release("vllm-spyre-1.4.3-chunked", b="step 4 differs")
    assert reason.explains(kept, "output/s/b") is explained


def test_a_failure_without_a_reason_is_an_error_of_a_whole_run_only() -> None:
    kept = release("vllm-spyre-1.4.3", b="step 4 differs")
    with pytest.raises(
        ReasonsError, match=r"vllm-spyre-1.4.3: output/s/b fails without a reason in .*: step 4 differs"
    ):
        reasons_of(kept, [], [])
    part = Kept(kept.name, "", {case: result for case, result in kept.cases.items() if case.startswith("output/")})
    assert reasons_of(part, [], []) == {"output/s/b": ""}


def test_a_reason_needs_cases(tmp_path: Path) -> None:
    table = tmp_path / "reasons.yaml"
    table.write_text("- {why: w, cases: []}\n", encoding="utf-8")
    with pytest.raises(ReasonsError, match="the reason 'w' has no cases"):
        read_reasons(table)
