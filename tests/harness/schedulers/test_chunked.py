"""Tests of the chunked scheduler in the harness: suites, rows, golden tables, invariants and search."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from harness.checks.steps import check_steps
from harness.drivers.reference import ReferenceDriver, SimulationDriver
from harness.golden.tables import golden_text, read_golden
from harness.report.step_view import step_table
from harness.runs.plain_decodes import as_row, columns_of, lengthen, shorten
from harness.runs.runner import run_workload
from harness.schedulers.chunked import SPEC
from harness.schedulers.chunked.invariants import RULES, check_invariants
from harness.schedulers.chunked.rules import DOC, rule_for, rule_for_kinds
from harness.schedulers.sharing import NUMBERS
from harness.search import search
from harness.search.report import suite_text
from harness.search.violated import violated
from harness.suites.expand import expand
from harness.suites.loader import SuiteError, load_suite
from harness.suites.prompts import simulated_spec
from harness.suites.schema import CHUNKED_COLUMNS, COLUMNS, Request, StepTable
from harness.suites.yaml import read_yaml
from harness.types import ChunkingSetup, EngineSetup, RequestSpec, Run, SchedulingLimits, StepRow, Verdict
from tests.harness.mutations.engine import CHUNKED_MUTATIONS
from tests.harness.mutations.registry import Patch
from tests.helpers.paths import DOCS, SUITES

CHUNKING = ChunkingSetup()
KINDS = ("prefill", "decode", "idle", "start")
REQUIREMENTS = read_yaml(SUITES / "requirements.yaml").data["requirements"]
LIMITS = SchedulingLimits(512, 3, 35, 400)
REQUESTS = (
    Request.model_validate({"prompt": {"random_tokens": 190, "seed": "a"}, "max_tokens": 9}),
    Request.model_validate(
        {"prompt": {"parts": [{"random_tokens": 130, "seed": "a"}, {"random_tokens": 60}]}, "max_tokens": 14}
    ),
    Request.model_validate({"prompt": {"random_tokens": 20}, "max_tokens": 6, "join_step": 9}),
)


@pytest.fixture(scope="module")
def ran() -> tuple[Run, list[RequestSpec]]:
    """Return a run and its requests. One request has a hit, one is paused, and one waits for the end of the pause."""
    session = SimulationDriver().open(EngineSetup("tiny-granite", "eager", 1, 512, 4, None, "chunked", CHUNKING))
    session.reset(LIMITS)
    specs = [simulated_spec(request, "run", number, NUMBERS) for number, request in enumerate(REQUESTS)]
    return run_workload(session, specs, REQUESTS), specs


SUITE = """\
suite: mine
kind: scheduler_steps
parameters: {{backend: [eager], scheduler: [{scheduler}]}}
cases:
  - id: one
    chunking: {{{chunking}}}
    requests: [{{prompt: {{random_tokens: 70}}, max_tokens: 3}}]
    expect: {{steps: golden}}
"""


def written(folder: Path, chunking: str = "chunk_size: 64", scheduler: str = "chunked") -> Path:
    path = folder / "mine.yaml"
    path.write_text(SUITE.format(chunking=chunking, scheduler=scheduler), encoding="utf-8")
    return path


def test_a_case_says_its_options_and_gets_its_markers(tmp_path: Path) -> None:
    (test,) = expand(suite := load_suite(written(tmp_path)).suite, ["m"])
    assert test.setup.options == ChunkingSetup(chunk_size=64)
    assert test.name == "one[m-eager-chunked]"
    assert test.markers(suite) == ("scheduler_steps", "cpu", "chunked_prefill", "prefix_caching")
    (test,) = expand(suite := load_suite(written(tmp_path, "enable_prefix_caching: false")).suite, ["m"])
    assert "prefix_caching" not in test.markers(suite)


@pytest.mark.parametrize(
    ("chunking", "scheduler", "words"),
    [
        ("chunk_size: 100", "chunked", "chunk_size 100 is not a multiple of 64"),
        ("chunk_sise: 64", "chunked", "chunk_sise"),
        ("chunk_size: 64", "continuous", "chunking is for the scheduler chunked"),
        ("chunk_size: 64", "chunked, continuous", "chunking is for the scheduler chunked"),
    ],
)
def test_wrong_options_are_reported_with_their_place(tmp_path: Path, chunking: str, scheduler: str, words: str) -> None:
    with pytest.raises(SuiteError, match=words) as wrong:
        load_suite(written(tmp_path, chunking, scheduler))
    assert "mine.yaml:6" in str(wrong.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([3, []], "paused must be a list"),
        ([[0], [1]], "hits must be a list"),
        ([[0]], "a row must be a list of 8"),
        ([[-1], []], "paused"),
    ],
)
def test_wrong_rows_are_reported(more: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TypeAdapter(StepTable).validate_python([[0, 0, [0], [], [], [], 0, 0, *more]])


def test_rows_of_both_schedulers_are_read_back(tmp_path: Path, ran: tuple[Run, list[RequestSpec]]) -> None:
    rows = [as_row(step) for step in ran[0].steps]
    assert all(isinstance(row, StepRow) for row in rows)
    assert lengthen(shorten(rows)) == rows
    path = tmp_path / "golden.yaml"
    path.write_text(golden_text("suite", "case", "engine", rows), encoding="utf-8")
    assert lengthen(read_golden(path, "")) == rows
    assert columns_of([*rows, StepRow(0, 0, (), (), (), (), 0, 0)]) == COLUMNS


def test_the_page_shows_the_columns_of_the_scheduler(ran: tuple[Run, list[RequestSpec]]) -> None:
    rows = [as_row(step) for step in ran[0].steps]
    at = next(row.step for row in rows if row.paused)
    wrong = [row._replace(paused=()) if row.step == at else row for row in rows]
    verdict = check_steps(ran[0], wrong)
    assert f"step {at} differs (decode of 1): paused 0, expected -" in verdict.headline
    assert verdict.rule.startswith("docs/scheduling-rules-chunked.md")
    table = step_table(verdict.data)
    assert table.columns[-2:] == ("paused", "hits")
    assert table.first == at
    cells = next(line for line in table.lines if line.step == at and line.mark).cells
    assert (cells[-2].seen, cells[-2].expected, cells[-1].seen) == ("0", "-", "1:1")


@pytest.mark.parametrize(
    ("which", "changes", "heading"),
    [
        (lambda row: row.hits, {"tkv": 0, "used": 9, "reserved": 9, "hits": ()}, '"Prefix caching"'),
        (lambda row: row.paused, {"tkv": 0, "running": (0, 1, 2), "paused": ()}, '"Pausing"'),
        (lambda row: row.waiting and row.step, {"waiting": (), "used": 9, "reserved": 9}, '"Waiting requests"'),
    ],
    ids=["hits", "paused", "waiting"],
)
def test_the_rule_of_a_wrong_step_is_that_of_its_cause(
    ran: tuple[Run, list[RequestSpec]], which: Callable[[StepRow], object], changes: dict[str, Any], heading: str
) -> None:
    rows = [as_row(step) for step in ran[0].steps]
    at = next(row.step for row in rows if which(row))
    verdict = check_steps(ran[0], [row._replace(**changes) if row.step == at else row for row in rows])
    assert set(verdict.data["differing"][str(at)]) == set(changes)
    assert f"{DOC} {heading}" in verdict.rule


def doctored(run: Run, which: str, change: dict[str, Any]) -> Run:
    """Return a copy of the run in which the first step of the kind ``which`` has other values.

    ``change`` has them by field.
    """
    first = next(
        i
        for i, (before, step) in enumerate(zip(run.steps, run.steps[1:], strict=False), 1)
        if {
            "chunk": step.kind == "prefill" and not step.outputs,
            "first token": step.kind == "prefill" and bool(step.outputs),
            "decode": step.kind == "decode",
            "paused": bool(step.paused),
            "two decode": step.kind == "decode" and len(step.outputs) == 2,
            "two share": len(step.block_tables) == 2,
            "end": bool(step.finished),
            "waits": bool(step.waiting) and not before.waiting and step.step > 5,
            "idle": step.kind == "idle",
        }[which]
    )
    steps = list(run.steps)
    values = {name: value(steps[first]) if callable(value) else value for name, value in change.items()}
    steps[first] = steps[first]._replace(**values)
    return replace(run, steps=tuple(steps))


DOCTORED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a chunk's tkv in blocks": ("chunk", {"tkv": 192}, "tkv"),
    "a chunk that gives a token": ("chunk", {"outputs": (1,)}, "outputs"),
    "a decode's tkv": ("decode", {"tkv": lambda step: step.tkv + 1}, "tkv"),
    "more than batch x tkv": ("two decode", {"tkv": 201}, "2 x 201 = 402 exceeds max_batch_tkv_limit 400"),
    "somebody left out": ("two decode", {"outputs": lambda step: step.outputs[:1], "block_tables": ()}, "outputs"),
    "in two places": ("paused", {"running": lambda step: (*step.running, *step.paused)}, "pausing"),
    "too many blocks": ("decode", {"reserved": 40}, "blocks"),
    "a block of somebody else": (
        "two share",
        {"block_tables": lambda step: (step.block_tables[0], step.block_tables[0][:3] + step.block_tables[1][3:])},
        "belongs to request 0 and to request 1",
    ),
    "a block too many": ("decode", {"block_tables": lambda step: ((*step.block_tables[0], 30),)}, "held"),
    "the padding block": ("decode", {"block_tables": lambda step: ((0, *step.block_tables[0][1:]),)}, "held"),
    "never finished": ("end", {"finished": ()}, "never finished"),
    "lost in the queue": ("waits", {"waiting": ()}, "queue"),
    "left behind": ("idle", {"used": 1}, "idle"),
}


@pytest.mark.parametrize("name", DOCTORED)
def test_what_must_not_be_is_seen(name: str, ran: tuple[Run, list[RequestSpec]]) -> None:
    run, specs = ran
    assert check_invariants(run, specs, REQUESTS, LIMITS, CHUNKING).passed
    which, change, message = DOCTORED[name]
    verdict = check_invariants(doctored(run, which, change), specs, REQUESTS, LIMITS, CHUNKING)
    assert not verdict.passed
    assert verdict.rule == RULES.get(message) or message in " ".join([verdict.headline, *verdict.details]), verdict


def test_a_hit_is_wrong_where_nothing_is_cached(ran: tuple[Run, list[RequestSpec]]) -> None:
    off = replace(CHUNKING, enable_prefix_caching=False)
    verdict = check_invariants(*ran, REQUESTS, LIMITS, off)
    assert not verdict.passed
    assert verdict.rule == RULES["owner"]


def test_rules_quote_headings_that_the_document_has() -> None:
    text = (DOCS / "scheduling-rules-chunked.md").read_text(encoding="utf-8")
    headings = {line.lstrip("# ") for line in text.splitlines() if line.startswith("##")}
    rules = [rule_for(kind, column) for kind in KINDS for column in CHUNKED_COLUMNS[1:]]
    rules += [*RULES.values(), rule_for_kinds("prefill", "decode")]
    for rule in rules:
        quoted = re.findall(r'"([^"]+)"', rule)
        assert quoted, rule
        assert set(quoted) <= headings, rule
        assert set(violated(SPEC, Verdict(False, "", rule=rule))) <= set(REQUIREMENTS), rule


def test_search_finds_nothing_where_nothing_is_wrong() -> None:
    result = search(SimulationDriver(), 60, seed=5, scheduler="chunked")
    assert result.found is None
    assert result.tried >= 60


def test_search_finds_nothing_on_the_model() -> None:
    result = search(ReferenceDriver(), 2, seed=5, scheduler="chunked")
    assert result.found is None


FOUND = ("count shared blocks again", "forget what is freed")


@pytest.mark.parametrize("patch", [f.patch for f in CHUNKED_MUTATIONS if f.name in FOUND], ids=FOUND)
def test_search_finds_what_is_wrong_and_writes_a_suite(
    patch: Patch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as broken:
        patch(broken)
        found = search(SimulationDriver(), 1500, seed=1, scheduler="chunked").found
    assert found is not None
    path = tmp_path / f"{found.workload.case_id}.yaml"
    path.write_text(suite_text(found), encoding="utf-8")
    (test, *_) = expand(load_suite(path).suite, ["tiny-granite"])
    assert test.options is not None
    rows = test.case.expect.steps  # type: ignore[attr-defined]
    assert lengthen(rows) == list(found.workload.expected())
