"""Helpers for tests of reports: artificial results, and the HTML page that is written from them."""

import base64
import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.checks.steps import check_steps
from harness.drivers.reference import SimulationDriver
from harness.report.page import write_page
from harness.report.reading import Recorded
from harness.runs.plain_decodes import as_row
from harness.runs.runner import run_workload
from harness.schedulers.sharing import NUMBERS
from harness.suites.prompts import simulated_spec
from harness.suites.schema import Request
from harness.timeline import tables_of
from harness.types import ChunkingSetup, EngineSetup, Run, SchedulingLimits, StepRow
from tests.helpers.narrow import present

Record = dict[str, Any]
REASON = "tensor_parallel_size 8 needs as many cores, but there are 2"
SUITE = "suites/scheduler_steps/joining.yaml"
HEADER: Record = {
    "header": 2,
    "engine": "reference engine 0.1.0 (torch 2.13.0)",
    "models": ["tiny-granite"],
    "command": "pytest suites",
    "python": "3.11.7",
    "began": 1_800_000_000.0,
}


def page(tmp_path: Path, results: Sequence[Record], exitstatus: int = 0, **header: Any) -> str:
    """Return the HTML page for these results, as a browser shows it after all tests have been opened."""
    return unpacked(written(tmp_path, results, exitstatus, **header))


def unpacked(html: str) -> str:
    """Return the HTML page with the compressed content of every test replaced by the decompressed content."""
    found = re.search(r'<script type="application/gzip" id="packed">(.*?)</script>\n', html)
    assert found is not None
    bodies = json.loads(gzip.decompress(base64.b64decode(found[1])))
    html = html.replace(found[0], "")
    for anchor, body in bodies.items():
        opening = re.search(rf'<details class="r [a-z]+" id="{anchor}"[^>]*data-packed>', html)
        assert opening is not None
        end = html.index("</details>", opening.end())
        html = html[:end] + body + html[end:]
    return html


def written(tmp_path: Path, results: Sequence[Record], exitstatus: int = 0, **header: Any) -> str:
    """Return the HTML page for these results. The results are first converted to JSON and back, as in a results file.

    ``header`` has fields that are added to the header line of the results file (HEADER).
    """
    path = tmp_path / "page.html"
    footer = {"footer": 1, "counts": {}, "exitstatus": exitstatus, "seconds": 72.4}
    write_page(path, Recorded(path, HEADER | header, tuple(json.loads(json.dumps(list(results)))), footer))
    return path.read_text(encoding="utf-8")


def record(case: str, outcome: str = "passed", configuration: str = "tiny-granite-eager", **more: Any) -> Record:
    """Return the result of a test of a suite. ``more`` adds fields or replaces them."""
    return {
        "test": f"{SUITE}::{case}[{configuration}]",
        "outcome": outcome,
        "seconds": 0.125,
        "kind": "scheduler_steps",
        "suite": "scheduler_steps/joining",
        "case": case,
        "about": "One joins while another decodes.",
        "requirements": ["CB-JOIN-02"],
        "described": "limits: max_num_seqs 2\nrequest 0: 49 random tokens, max_tokens 70",
        "model": "tiny-granite",
        "backend": "eager",
        "configuration": configuration,
        "place": f"{SUITE}:12",
        "source": f"  - id: {case}\n    requests:\n      - {{prompt: {{random_tokens: 49}}, max_tokens: 70}}\n",
        "source_line": 12,
    } | more


def poor(case: str, outcome: str, text: str, configuration: str = "tiny-granite-eager") -> Record:
    """Return a result with only four fields, like that of a test that was skipped before its start, or crashed."""
    return {"test": f"{SUITE}::{case}[{configuration}]", "outcome": outcome, "seconds": 0.0, "text": text}


def verdict(passed: bool, headline: str, **more: Any) -> Record:
    return {"passed": passed, "headline": headline, "details": [], "rule": "", "data": {}} | more


def steps_verdict(expected: Sequence[StepRow], seen: Sequence[StepRow], blocks: bool = True) -> Record:
    """Return the verdict of ``check_steps`` for a run with the rows ``seen``, compared with the rows ``expected``.

    ``blocks`` is passed to ``check_steps``.
    """
    kinds = {row.step: kind_of(row, before) for before, row in zip([None, *seen[:-1]], seen, strict=True)}
    run = Run(tuple(as_step(row, kinds[row.step], blocks) for row in seen), ())
    checked = check_steps(run, expected, blocks=blocks)
    return verdict(
        checked.passed, checked.headline, details=list(checked.details), rule=checked.rule, data=dict(checked.data)
    )


def as_step(row: StepRow, kind: str, blocks: bool) -> StepRow:
    last = (row.reserved, row.used) if blocks else (None, None)
    return row._replace(kind=kind, reserved=last[0], used=last[1])


def kind_of(row: StepRow, before: StepRow | None) -> str:
    if before is None:
        return "start"
    return "idle" if not row.outputs else "prefill" if set(row.outputs) - set(before.running) else "decode"


def chunked_verdict() -> Record:
    """Return the verdict of ``check_steps`` for a chunked run in which request 1 shares blocks with request 0."""
    chunking = ChunkingSetup()
    requests = [
        Request.model_validate({"prompt": {"random_tokens": 200, "seed": "a"}, "max_tokens": 4 + 2 * i}) for i in (0, 1)
    ]
    session = SimulationDriver().open(EngineSetup("tiny-granite", "eager", 1, 512, 4, None, "chunked", chunking))
    session.reset(SchedulingLimits())
    run = run_workload(session, [simulated_spec(r, "twins", i, NUMBERS) for i, r in enumerate(requests)], requests)
    checked = check_steps(run, [as_row(step) for step in run.steps])
    own = {"sizes": [[200, 4, 0], [200, 6, 0]], "options": asdict(chunking), "tables": tables_of(run.steps)}
    return verdict(checked.passed, checked.headline, data={**checked.data, **own})


def output_verdict(passed: bool, text: str, reference: str, ids: Sequence[int], wanted: Sequence[int]) -> Record:
    data = {"request": 0, "text": text, "reference_text": reference, "token_ids": ids, "reference_token_ids": wanted}
    details = [] if passed else [f"Hugging Face: {reference!r}", f"engine:       {text!r}", "", "2 of 4 tokens differ"]
    return verdict(passed, f"request 0: {len(wanted)} tokens as Hugging Face", details=details, data=data)


def table(requests: int = 2, decodes: int = 30) -> list[StepRow]:
    """Return a step table in which requests join one by one, each after ``decodes`` decodes, and finish together."""
    rows = [StepRow(0, 0, (0,), (), (), (), 0, 0)]
    for newest in range(requests):
        running = tuple(range(newest, -1, -1))
        tkv = rows[-1].tkv or 64
        rows.append(StepRow(len(rows), tkv, (), running, (newest,), (), 3 * newest + 3, 2 * newest + 2))
        for _ in range(decodes):
            rows.append(rows[-1]._replace(step=len(rows), tkv=present(rows[-1].tkv) + 1, outputs=running))
    last = rows[-1]
    rows.append(last._replace(step=len(rows), tkv=present(last.tkv) + 1, running=(), finished=last.running))
    rows.append(StepRow(len(rows), 0, (), (), (), (), 0, 0))
    return rows


def changed(rows: Sequence[StepRow], first: int, last: int | None = None, **cells: Any) -> list[StepRow]:
    return [row._replace(**cells) if first <= row.step <= (last or first) else row for row in rows]


def results(count: int) -> list[Record]:
    """Return ``count`` results with step tables and time-lines. One in a hundred is a failure.

    Result 1 is a skipped test, result 2 an error, and result 3 is of the chunked scheduler.
    """
    rows = table()
    drawn = steps_verdict(rows, rows)
    wrong = steps_verdict(rows, [row._replace(tkv=1) if row.step == 20 else row for row in rows])
    for each in (drawn, wrong):
        each["data"]["sizes"] = [[60, 40, 0], [10, 40, 0]]
    output = output_verdict(True, "a b", "a b", [1, 2], [1, 2])
    output["data"] |= {"logprobs": [-0.1, -0.2], "reference_logprobs": [-0.1, -0.2001]}
    made = [record(f"case-{i}", verdicts=[drawn, output], markers=["cb", "cpu"]) for i in range(count)]
    for i in range(0, count, 100):
        made[i] = record(f"case-{i}", "failed", verdicts=[wrong], requirements=["CB-TKV-01"], markers=["cb"])
    made[1] = record("case-1", "skipped", text="Skipped: needs a card", verdicts=[])
    made[2] = record("case-2", "error", text="Traceback", verdicts=[verdict(False, "broke")])
    made[3] = record("case-3", verdicts=[chunked_verdict()], markers=["chunked_prefill", "cpu"])
    return made
