"""One HTML page about a run: everything in one file, nothing fetched, readable without scripts.

This module turns the result records (see ``stream.py``) into what the page shows; ``page.html.j2`` lays it out.
Records may be poor: a test that was skipped, or whose process died, says little more than its name. What it lacks
is taken from its name and from other configurations of the same case.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.resources import files
from itertools import pairwise, zip_longest
from pathlib import Path
from textwrap import dedent
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.report.step_view import StepTable, step_table

Record = Mapping[str, Any]

SYMBOLS = {"passed": "✓", "failed": "✗", "error": "!", "skipped": "–"}
"""Every outcome, and what stands before its name wherever it is shown."""

INTERRUPTED = 2
NOTHING_COLLECTED = 5
MOST_TEXT = 8_000
MOST_REASON = 300
MOST_OUTPUT = 2_000
MOST_EQUAL_OUTPUT = 60


def write_page(path: Path, header: Record, results: Sequence[Record], footer: Record) -> None:
    """Write the page about a run: ``header`` and ``footer`` are about all of it, ``results`` one a test."""
    views = [_result(i, record) for i, record in enumerate(_completed(results))]
    template = _environment().get_template("page.html.j2")
    page = template.render(
        run=_run(header, footer),
        summary=_summary(views, int(footer.get("exitstatus", 0))),
        counts=[(status, symbol, _count(views, status)) for status, symbol in SYMBOLS.items()],
        problems=[view for status in ("failed", "error") for view in views if view.status == status],
        skips=Counter(view.reason for view in views if view.status == "skipped").most_common(),
        suites=_suites(views),
        symbols=SYMBOLS,
        css=_asset("page.css"),
        js=_asset("page.js"),
    )
    # Half a surrogate pair can come out of a tokenizer; it must not cost the whole report.
    path.write_text(page, encoding="utf-8", errors="backslashreplace")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("harness.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> Markup:
    return Markup(files("harness.report").joinpath(name).read_text(encoding="utf-8").strip())


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _printable(value: object) -> object:
    """Control characters, which HTML cannot hold, as escapes."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", value)


# ---------------------------------------------------------------------------------------------------- the whole run


@dataclass(frozen=True)
class RunView:
    """What the top of the page says of the run."""

    engine: str
    models: str
    backends: str
    compiled: str
    command: str
    python: str
    began: str
    began_iso: str
    duration: str


@dataclass(frozen=True)
class Summary:
    """The one sentence about the run. ``tone`` is passed, failed or unknown."""

    sentence: str
    tone: str


def _run(header: Record, footer: Record) -> RunView:
    began = datetime.fromtimestamp(header["began"]).astimezone() if "began" in header else None
    return RunView(
        engine=str(header.get("engine", "unknown")),
        models=", ".join(map(str, header.get("models", ()))) or "none",
        backends=", ".join(map(str, header.get("backends", ()))) or "none",
        compiled="; ".join(map(str, footer.get("compiled", ()))),
        command=str(header.get("command", "")),
        python=str(header.get("python", "unknown")),
        began=began.strftime("%Y-%m-%d %H:%M:%S %Z") if began else "unknown",
        began_iso=began.isoformat(timespec="seconds") if began else "",
        duration=_duration(float(footer.get("seconds", 0.0))),
    )


def _summary(views: Sequence["ResultView"], exitstatus: int) -> Summary:
    """Green only if something ran, all of it passed, and pytest itself ended well."""
    sentence, tone = _outcomes_sentence(views, exitstatus)
    if exitstatus == INTERRUPTED:
        return Summary(
            f"The run was interrupted, results are missing. Until then: {_uncapitalised(sentence)}", "failed"
        )
    if tone == "passed" and exitstatus:
        return Summary(f"{sentence}. But pytest itself ended badly (exit status {exitstatus})", "failed")
    return Summary(sentence, tone)


def _outcomes_sentence(views: Sequence["ResultView"], exitstatus: int) -> tuple[str, str]:
    passed, failed, errors, skipped = (_count(views, s) for s in ("passed", "failed", "error", "skipped"))
    ran = passed + failed
    and_skipped = f"; {skipped} skipped" if skipped else ""
    if not ran and not errors:
        if skipped:
            return f"Nothing ran: {_number(skipped, 'test')} skipped", "unknown"
        return "Nothing ran: no test was " + ("selected" if exitstatus == NOTHING_COLLECTED else "finished"), "unknown"
    if not failed and not errors:
        return f"{f'All {ran} tests' if ran > 1 else 'The only test'} that ran passed{and_skipped}", "passed"
    parts = [f"{failed} of {_number(ran, 'test')} that ran failed"] if failed else []
    parts += [_number(errors, "error")] if errors else []
    parts += [f"{passed} passed"] if passed else []
    return f"{', '.join(parts)}{and_skipped}", "failed"


def _count(views: Iterable["ResultView"], status: str) -> int:
    return sum(view.status == status for view in views)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _uncapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


# -------------------------------------------------------------------------------------------- records that say little

_OF_THE_CASE = ("kind", "suite", "about", "requirements", "described", "place", "source", "source_line")
_TEST_NAME = re.compile(r"(?P<case>.*?)(\[(?P<configuration>.*)\])?", re.DOTALL)


def _completed(results: Sequence[Record]) -> list[Record]:
    """Every record with its file, case and configuration, and what its siblings know of the case."""
    named = [{**_from_name(str(record.get("test", ""))), **record} for record in results]
    suites = {record["file"]: record["suite"] for record in named if "suite" in record}
    cases = {(r["file"], r["case"]): {k: r[k] for k in _OF_THE_CASE if k in r} for r in named if "source" in r}
    return [{"suite": suites.get(r["file"], r["file"]), **cases.get((r["file"], r["case"]), {}), **r} for r in named]


def _from_name(test: str) -> dict[str, str]:
    """``file::case[configuration]`` taken apart; a file that was not collected is a name without ``::``."""
    file, _, name = test.partition("::")
    match = _TEST_NAME.fullmatch(name) if file.endswith((".yaml", ".yml")) else None
    if match is None:
        return {"file": file, "case": name or file, "configuration": ""}
    return {"file": file, "case": match["case"] or file, "configuration": match["configuration"] or ""}


# ------------------------------------------------------------------------------------------------------- one result


@dataclass(frozen=True)
class Output:
    """What one request got, and what Hugging Face says: the part that is the same, then the rest of each."""

    tokens: str
    same: str
    engine: str
    reference: str
    equal: bool


@dataclass(frozen=True)
class VerdictView:
    """One check of a test."""

    status: str
    headline: str
    rule: str
    details: str
    table: StepTable | None
    output: Output | None


@dataclass(frozen=True)
class ResultView:
    """One test, as the page shows it. ``reason`` says in one line why it did not pass."""

    anchor: str
    test: str
    status: str
    file: str
    suite: str
    kind: str
    case: str
    configuration: str
    requirements: str
    about: str
    described: str
    place: str
    source: str
    source_lines: str
    seconds: str
    verdicts: tuple[VerdictView, ...]
    text: str

    @property
    def command(self) -> str:
        """What runs this test again, alone."""
        return f"pytest {shlex.quote(self.test)}"

    @property
    def first_failure(self) -> VerdictView | None:
        return next((v for v in self.verdicts if v.status == "failed"), None) if self.status != "skipped" else None

    @property
    def also_failed(self) -> int:
        """How many checks failed beside the first one."""
        return max(0, sum(v.status == "failed" for v in self.verdicts) - 1)

    @cached_property
    def reason(self) -> str:
        if self.status == "passed":
            return ""
        if self.first_failure:
            return self.first_failure.headline
        return _gist(self.text) or "no reason was given"

    @property
    def rule(self) -> str:
        return self.first_failure.rule if self.first_failure else ""

    @property
    def at_step(self) -> str:
        table = self.first_failure.table if self.first_failure else None
        return f"step {table.first}" if table and table.first is not None else ""

    @property
    def unexplained(self) -> str:
        """The text of the test where no verdict says more."""
        return "" if self.first_failure or self.text == self.reason else self.text


def _result(index: int, record: Record) -> ResultView:
    outcome = str(record.get("outcome", "error"))
    source = dedent(str(record.get("source", ""))).strip("\n")
    first = int(record.get("source_line", 1))
    return ResultView(
        anchor=f"r{index}",
        test=str(record.get("test", "")),
        status=outcome if outcome in SYMBOLS else "error",
        file=record["file"],
        suite=str(record["suite"]),
        kind=str(record.get("kind", "")),
        case=str(record["case"]),
        configuration=str(record["configuration"]),
        requirements=" ".join(map(str, record.get("requirements", ()))),
        about=str(record.get("about", "")),
        described=str(record.get("described", "")),
        place=str(record.get("place") or record["file"]),
        source=source,
        source_lines="\n".join(str(first + i) for i in range(len(source.splitlines()))),
        seconds=_duration(float(record.get("seconds", 0.0))),
        verdicts=tuple(_verdict(verdict) for verdict in record.get("verdicts", ())),
        text=_shortened(_own_text(record), MOST_TEXT),
    )


def _own_text(record: Record) -> str:
    """What pytest says of a test, without what the page says beside it: its outcome and its name."""
    text = str(record.get("text", "")).removeprefix("Skipped: ")
    return text.removeprefix(f"{record.get('test', '')}: ").strip()


def _verdict(verdict: Record) -> VerdictView:
    data = verdict.get("data", {})
    output = _output(data) if "reference_text" in data else None
    details = [line for line in verdict.get("details", ()) if not (output and line.startswith(_TEXTS))]
    if verdict["passed"] and "error" in data:
        details.append(f"message: {data['error']}")
    return VerdictView(
        status="passed" if verdict["passed"] else "failed",
        headline=str(verdict["headline"]),
        rule=str(verdict.get("rule", "")),
        details=_shortened("\n".join(details).strip("\n"), MOST_TEXT),
        table=step_table(data) if "steps" in data else None,
        output=output,
    )


def _gist(text: str) -> str:
    """The line that says it: of a traceback the last exception, of anything else the first line."""
    lines = text.splitlines()
    raised = [line for before, line in pairwise(["", *lines]) if _is_exception(line) and not _is_exception(before)]
    gist = raised[-1][1:] if raised else next((line for line in lines if line.strip()), "")
    return _beginning(gist.strip(), MOST_REASON)


def _is_exception(line: str) -> bool:
    return line.startswith("E  ")


def _beginning(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _shortened(text: str, most: int) -> str:
    """Without the middle: how a text begins and how it ends says most."""
    if len(text) <= most:
        return text
    begin = most // 3
    return f"{text[:begin]} … {len(text) - most:,} more characters … {text[-(most - begin) :]}"


# ------------------------------------------------------------------------------------------------------------ outputs

_TEXTS = ("Hugging Face: ", "engine: ")
"""How the lines of a verdict begin that hold both texts; the page shows those side by side itself."""


def _output(data: Record) -> Output:
    engine, reference = _on_one_line(data.get("text", "")), _on_one_line(data["reference_text"])
    seen, wanted = data.get("token_ids", ()), data.get("reference_token_ids", ())
    total = max(len(seen), len(wanted))
    equal = sum(a is not None and a == b for a, b in zip_longest(seen, wanted))
    if equal == total and engine == reference:
        return Output(f"all {total} tokens equal", _beginning(engine, MOST_EQUAL_OUTPUT), "", "", True)
    same = engine[: _same_characters(engine, reference)]
    return Output(
        f"{equal} of {total} tokens equal",
        _shortened(same, MOST_OUTPUT),
        _shortened(engine[len(same) :], MOST_OUTPUT),
        _shortened(reference[len(same) :], MOST_OUTPUT),
        False,
    )


def _on_one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _same_characters(one: str, other: str) -> int:
    different = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(different, min(len(one), len(other)))


# ------------------------------------------------------------------------------------------------------------- suites


@dataclass(frozen=True)
class MatrixRow:
    """A case; a list of results for each configuration (more than one only where names collide)."""

    case: str
    cells: tuple[tuple[ResultView, ...], ...]


@dataclass(frozen=True)
class SuiteView:
    """A suite's matrix, and its results case by case."""

    anchor: str
    name: str
    file: str
    kind: str
    counts: str
    configurations: tuple[str, ...]
    rows: tuple[MatrixRow, ...]

    @property
    def results(self) -> list[ResultView]:
        return [result for row in self.rows for cell in row.cells for result in cell]

    @property
    def has_matrix(self) -> bool:
        """Tests that come from no suite have no configurations."""
        return any(self.configurations)


def _suites(views: Sequence[ResultView]) -> list[SuiteView]:
    by_file: dict[str, list[ResultView]] = {}
    for view in views:
        by_file.setdefault(view.file, []).append(view)
    return [_suite(i, file, members) for i, (file, members) in enumerate(by_file.items())]


def _suite(index: int, file: str, members: Sequence[ResultView]) -> SuiteView:
    configurations = tuple(dict.fromkeys(member.configuration for member in members))
    by_cell: dict[tuple[str, str], list[ResultView]] = {}
    for member in members:
        by_cell.setdefault((member.case, member.configuration), []).append(member)
    rows = tuple(
        MatrixRow(case, tuple(tuple(by_cell.get((case, configuration), ())) for configuration in configurations))
        for case in dict.fromkeys(member.case for member in members)
    )
    counts = ", ".join(f"{_count(members, status)} {status}" for status in SYMBOLS if _count(members, status))
    name, kind = members[0].suite, next((m.kind for m in members if m.kind), "")
    return SuiteView(f"s{index}", name, file, kind, counts, configurations, rows)
