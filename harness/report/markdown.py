"""Write a summary of a run as Markdown, for CI jobs: its outcome, the failed tests, and the violated rules."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from harness.report.outcomes import PROBLEMS, SYMBOLS, Record, duration, reason
from harness.report.printable import printable
from harness.report.reading import Recorded
from harness.report.requirement_view import requirement_matrix
from harness.report.result_view import result_views
from harness.report.run_view import summary_of
from harness.report.tested import cards_in_words, models_in_words
from harness.utils.files import refuse_named_pipe

MAX_LISTED = 50


def write_markdown(path: Path, run: Recorded) -> None:
    """Append the summary of a run to the file ``path``.

    Existing content is kept, because in CI all steps of a job write to the same file. Raises OSError if the file can't
    be written.
    """
    refuse_named_pipe(path)
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write("\n".join([*_lines(run), ""]))


def _lines(run: Recorded) -> Iterator[str]:
    views = result_views(run.results)
    footer = run.footer or {}
    about = {**run.header, **footer, "running": run.running, "missing": run.missing}
    yield f"## {_plain(summary_of(views, about, cut_off=run.footer is None).sentence)}"
    yield ""
    backends = ", ".join(map(str, about.get("backends", ()))) or "none"
    yield f"{_plain(run.engine)}, backends {_plain(backends)}, {duration(float(footer.get('seconds', 0.0)))}"
    tested = [f"models {models_in_words(about)}", *([f"cards {cards}"] if (cards := cards_in_words(about)) else [])]
    yield _plain("; ".join(tested))
    yield ""
    counts = Counter(view.status for view in views)
    yield " · ".join(f"{SYMBOLS[status]} {counts[status]} {status}" for status in SYMBOLS if counts[status])
    matrix = requirement_matrix(about, views)
    if matrix.rows:
        yield ""
        yield matrix.sentence
    for each in run.missing:
        yield from ("", f"### {_plain(each.sentence)}", "")
        tests = each.tests or ()
        yield from (f"- `{_plain(test, code=True)}`" for test in tests[:MAX_LISTED])
        yield from ([f"- and {len(tests) - MAX_LISTED} more"] if len(tests) > MAX_LISTED else [])
    bad = [record for status in PROBLEMS for record in run.results if record["outcome"] == status]
    rules = Counter(rule for record in bad if (rule := _rule(record)))
    if rules:
        yield from ("", "### Violated rules", "")
        yield from (f"- {count}× {_plain(rule)}" for rule, count in rules.most_common())
    if bad:
        yield from ("", "| | case | why | where |", "| --- | --- | --- | --- |")
        yield from (_row(record) for record in bad[:MAX_LISTED])
    if len(bad) > MAX_LISTED:
        yield from ("", f"and {len(bad) - MAX_LISTED} more")
    skips = Counter(reason(record) for record in run.results if record["outcome"] == "skipped")
    if skips:
        yield from ("", "### Skipped", "")
        yield from (f"- {count}: {_plain(why)}" for why, count in skips.most_common())
    yield ""


def _row(record: Record) -> str:
    name = str(record["test"]).partition("::")[2] or str(record["test"])
    ids = " ".join(map(str, record.get("requirements", ())))
    place = str(record.get("place", record["test"])).partition("::")[0]
    outcome = str(record["outcome"])
    cells = f"{SYMBOLS.get(outcome, '!')} {outcome}", f"`{name}` {ids}", reason(record), place
    return f"| {' | '.join(_plain(cell, code=True) for cell in cells)} |"


def _rule(record: Record) -> str:
    return next((str(v["rule"]) for v in record.get("verdicts", ()) if not v["passed"] and v.get("rule")), "")


def _plain(text: str, *, code: bool = False) -> str:
    """Return ``text`` on one line and with Markdown's special characters escaped, so that it fits into a table cell."""
    text = " ".join(printable(text).split())
    for sign in "\\<>|" if code else "\\<>|*_`[":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return text
