"""Tests of the token-budget scheduler in the harness.

They test suites, rows, golden tables, invariants, time-lines, traces and search.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkpoints import resolve
from harness.checks.steps import check_steps
from harness.cli import main
from harness.drivers.reference import ReferenceDriver, SimulationDriver
from harness.report.step_view import step_table
from harness.runs.plain_decodes import as_data, as_row, from_data, lengthen, shorten
from harness.runs.runner import run_workload
from harness.schedulers.request_tokens import requests_with_tokens
from harness.schedulers.sharing import NUMBERS, SharingRequest
from harness.schedulers.token_budget import SPEC
from harness.schedulers.token_budget.invariants import RULES, check_invariants
from harness.schedulers.token_budget.kinds import kind_of_row
from harness.schedulers.token_budget.model import predict
from harness.schedulers.token_budget.rules import BY_COLUMN, CAUSES, rule_for, rule_for_kinds
from harness.schedulers.token_budget.workloads import TokenBudgetWorkload
from harness.search.laws import follows_the_rules, try_workload
from harness.search.report import write_suite
from harness.search.run import Alone, Found, search
from harness.search.violated import violated
from harness.suites.loader import SuiteError, load_suite
from harness.suites.prompts import simulated_spec, vocabulary_of
from harness.suites.schema import FORMATS, TOKEN_BUDGET_COLUMNS, Request, StepsSuite
from harness.suites.yaml import read_yaml
from harness.timeline import Size, as_svg, as_text, time_line
from harness.types import EngineSetup, RequestSpec, Run, SchedulingLimits, TokenBudgetSetup, Verdict
from tests.helpers.paths import ROOT

REQUIREMENTS = read_yaml(ROOT / "suites" / "requirements.yaml").data["requirements"]
OPTIONS = TokenBudgetSetup(128)
SMALL_BLOCKS = TokenBudgetSetup(128, block_size=32)
LIMITS = SchedulingLimits(512, 3, 5)
REQUESTS = (
    Request.model_validate({"prompt": {"random_tokens": 126, "seed": "a"}, "max_tokens": 8}),
    Request.model_validate(
        {"prompt": {"parts": [{"random_tokens": 70, "seed": "a"}, {"random_tokens": 60}]}, "max_tokens": 9}
    ),
    Request.model_validate({"prompt": {"random_tokens": 20}, "max_tokens": 6, "join_step": 4}),
)


@pytest.fixture(scope="module")
def ran() -> tuple[Run, list[RequestSpec]]:
    """Return a run and its requests.

    The run has prefills in several steps, a hit, a preemption and a waiting request.
    """
    session = SimulationDriver().open(EngineSetup("tiny-granite", "eager", 1, 512, 4, None, "token_budget", OPTIONS))
    session.reset(replace(LIMITS, available_blocks=4))
    specs = [simulated_spec(request, "run", number, NUMBERS) for number, request in enumerate(REQUESTS)]
    return run_workload(session, specs, REQUESTS), specs


def test_the_run_of_these_tests_has_what_they_need(ran: tuple[Run, list[RequestSpec]]) -> None:
    steps = ran[0].steps
    assert {step.kind for step in steps} == {"start", "prefill", "decode", "mixed", "idle"}
    assert any(step.preempted for step in steps)
    assert sum(bool(step.hits) for step in steps) == 2


def test_a_table_in_its_short_form_is_the_same_table(ran: tuple[Run, list[RequestSpec]]) -> None:
    rows = [as_row(step) for step in ran[0].steps]
    assert len(shorten(rows)) < len(rows)
    assert lengthen(shorten(rows)) == rows


def test_kinds_follow_from_rows_alone(ran: tuple[Run, list[RequestSpec]]) -> None:
    steps = ran[0].steps
    assert [kind_of_row(row, before) for before, row in zip([None, *steps], steps, strict=False)] == [
        step.kind for step in steps
    ]


def test_a_run_has_no_tkv_and_no_report_shows_one(ran: tuple[Run, list[RequestSpec]]) -> None:
    """Rows and results of a run with ``token_budget`` have no tkv, also if a driver reports a tkv of 0."""
    rows = [as_row(step) for step in ran[0].steps]
    assert {row.tkv for row in rows} == {None}
    assert [as_row(step._replace(tkv=0)) for step in ran[0].steps] == rows
    data = check_steps(ran[0], rows).data
    assert not any("tkv" in row for row in data["steps"])
    assert [as_row(from_data(as_data(step))) for step in ran[0].steps] == rows
    folded = [line.folded for line in step_table(data).lines if line.folded]
    assert folded == ["… 3 plain decodes, steps 5 to 7 …", "… 4 plain decodes, steps 10 to 13 …"]


def test_a_wrong_step_says_which_request_computes_how_many_tokens(ran: tuple[Run, list[RequestSpec]]) -> None:
    rows = [as_row(step) for step in ran[0].steps]
    rows[2] = rows[2]._replace(scheduled=((0, 1), (1, 60)))
    verdict = check_steps(ran[0], rows)
    assert verdict.headline.startswith("step 2 differs (mixed step (1 of 0, 60 of 1)): scheduled 0:1 1:")
    assert '"TB-RUNNING" and "TB-ADMIT"' in verdict.rule
    explained = SPEC.explain(replace(LIMITS, available_blocks=4), OPTIONS, ran[1], REQUESTS, ran[0], 2)
    assert explained is not None
    assert explained.startswith("step 2: 1 of 0 and ")


SUITE = """\
suite: mine
kind: scheduler_steps
parameters: {{backend: [eager], scheduler: [{scheduler}]}}
cases:
  - id: one
    limits: {{{limits}}}
    token_budget: {{{options}}}
    requests: [{{prompt: {{random_tokens: 70}}, max_tokens: 3}}]
    expect: {{steps: golden}}
"""


@pytest.mark.parametrize(
    ("scheduler", "limits", "options", "words"),
    [
        ("token_budget", "", "max_num_batched_tokens: 0", "max_num_batched_tokens: must be"),
        ("token_budget", "", 'rules: "0.30"', "rules"),
        ("token_budget", "", "block_size: 48", "block_size 48 is not a multiple of 32 — use 32, 64, 96, …"),
        ("token_budget", "", "block_size: 0", "block_size: must be"),
        ("token_budget", "available_blocks: 2", "block_size: 32", "needs at least 3 blocks of 32 tokens, but"),
        ("token_budget", "", "rules: 0.27", "YAML reads `0.27` as a number; quote it"),
        ("token_budget", "", "max_tokens: 64", "unknown key"),
        ("token_budget", "max_batch_tkv_limit: 500", "", "has no tkv and therefore no max_batch_tkv_limit"),
        ("token_budget", "", "max_num_batched_tokens: 71, enable_chunked_prefill: false", "can need 72 tokens in one"),
        ("chunked", "", "max_num_batched_tokens: 64", "token_budget is for the scheduler token_budget"),
    ],
)
def test_wrong_options_are_given_with_their_place(
    tmp_path: Path, scheduler: str, limits: str, options: str, words: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE.format(scheduler=scheduler, limits=limits, options=options), encoding="utf-8")
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert words in str(caught.value)
    assert re.search(r"mine\.yaml:\d+:\d+: ", str(caught.value))


def test_other_blocks_than_those_of_a_card_are_refused_on_cards(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = SUITE.format(scheduler="token_budget", limits="", options="block_size: 32")
    path.write_text(text, encoding="utf-8")
    assert load_suite(path).suite.cases[0].block_size == 32
    path.write_text(text.replace("[eager]", "[eager, sendnn]"), encoding="utf-8")
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    place = "mine.yaml:7:32: cases[0].token_budget.block_size: "
    assert f"{place}block_size 32 does not run on backend sendnn, and " in str(caught.value)
    assert "is eager, sendnn — use 64, or move the case to a suite without this backend" in str(caught.value)


def doctored(run: Run, which: str, change: dict[str, Any]) -> Run:
    """Return a copy of the run in which the first step of the kind ``which`` has other values.

    ``change`` has them by field.
    """
    first = next(
        step.step
        for step in run.steps
        if {
            "chunk": len(step.outputs) < len(step.scheduled or ()),
            "two decode": step.kind == "decode" and len(step.outputs) == 2,
            "hit": bool(step.hits),
            "preemption": bool(step.preempted),
            "end": bool(step.finished),
            "waits": bool(step.waiting) and step.step > 4,
            "idle": step.kind == "idle",
        }[which]
    )
    steps = list(run.steps)
    values = {name: value(steps[first]) if callable(value) else value for name, value in change.items()}
    steps[first] = steps[first]._replace(**values)
    return replace(run, steps=tuple(steps))


DOCTORED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a token over the budget": (
        "chunk",
        {"scheduled": lambda s: (*s.scheduled[:-1], (s.scheduled[-1][0], 128))},
        "budget",
    ),
    "scheduled twice": ("chunk", {"scheduled": lambda s: (*s.scheduled, s.scheduled[0])}, "scheduled twice"),
    "waiting before running": (
        "chunk",
        {"scheduled": lambda s: tuple(reversed(s.scheduled))},
        "the step scheduled 1 0, but the running requests were none and the queue was 0 1",
    ),
    "running in another order": ("two decode", {"running": lambda s: tuple(reversed(s.running))}, "order"),
    "a token before all is computed": (
        "chunk",
        {"outputs": (0, 1)},
        "requests 0 1 got a token, but all tokens are computed only of request 0",
    ),
    "no token where all is computed": ("two decode", {"outputs": lambda s: s.outputs[:1]}, "lost"),
    "a hit of half a block": ("hit", {"hits": ((1, 32),)}, "hits"),
    "a hit of the whole length": ("hit", {"hits": ((1, 192),)}, "hits"),
    "another victim": (
        "preemption",
        {"preempted": (0,)},
        "the step preempted 0, but must preempt the last of the running requests, which were 0 1",
    ),
    "the victim is lost": ("preemption", {"waiting": ()}, "queue"),
    "decodes that are reported as a mixed step": ("two decode", {"kind": "mixed"}, "kind"),
    "a block too many in use": ("two decode", {"used": 9}, "conserved"),
    "a block too few in use": ("two decode", {"used": 1}, "conserved"),
    "never finished": ("end", {"finished": ()}, "never finished"),
    "lost in the queue": ("waits", {"waiting": ()}, "queue"),
    "left behind": ("idle", {"used": 1}, "conserved"),
    "the null block": (
        "two decode",
        {"block_tables": lambda s: ((0, *s.block_tables[0][1:]), *s.block_tables[1:])},
        "held",
    ),
}


@pytest.mark.parametrize("name", DOCTORED)
def test_what_must_not_be_is_seen(name: str, ran: tuple[Run, list[RequestSpec]]) -> None:
    run, specs = ran
    limits = replace(LIMITS, available_blocks=4)
    assert check_invariants(run, specs, REQUESTS, limits, OPTIONS).passed
    which, change, message = DOCTORED[name]
    verdict = check_invariants(doctored(run, which, change), specs, REQUESTS, limits, OPTIONS)
    assert not verdict.passed
    assert verdict.rule == RULES.get(message) or message in " ".join([verdict.headline, *verdict.details]), verdict


@pytest.fixture(scope="module")
def with_small_blocks() -> tuple[Run, list[RequestSpec]]:
    """Return a run with blocks of 32 tokens, in which request 1 has a hit of two blocks, and its requests."""
    session = SimulationDriver().open(
        EngineSetup("tiny-granite", "eager", 1, 512, 4, None, "token_budget", SMALL_BLOCKS)
    )
    session.reset(SchedulingLimits())
    specs = [simulated_spec(request, "run", number, NUMBERS) for number, request in enumerate(REQUESTS)]
    return run_workload(session, specs, REQUESTS), specs


def test_the_block_size_is_an_option(with_small_blocks: tuple[Run, list[RequestSpec]]) -> None:
    run, specs = with_small_blocks
    assert [hit for step in run.steps for hit in step.hits or ()] == [(1, 64)]
    limits = SchedulingLimits(512, 4, 64)
    expected = predict(limits, SMALL_BLOCKS, requests_with_tokens(specs, REQUESTS, None))
    assert check_steps(run, expected).passed
    assert check_invariants(run, specs, REQUESTS, limits, SMALL_BLOCKS).passed
    verdict = check_invariants(run, specs, REQUESTS, limits, OPTIONS)
    assert "must be 2 different blocks without block 0" in " ".join([verdict.headline, *verdict.details])
    half = doctored(run, "hit", {"hits": ((1, 48),)})
    assert check_invariants(half, specs, REQUESTS, limits, SMALL_BLOCKS).rule == RULES["hits"]


def test_a_time_line_shows_blocks_of_their_size(with_small_blocks: tuple[Run, list[RequestSpec]]) -> None:
    run, specs = with_small_blocks
    sizes = [Size(len(spec.prompt_token_ids), spec.max_tokens) for spec in specs]
    line = time_line(run.steps, sizes, {"block_size": 32})
    text = as_text(line)
    assert line.widest == 160
    assert "   1 |A▚▚▚|B▚▚▚|▓▓▓▓|▓▓▓▓|▓▒▒▒|" in text
    assert "5" in next(row for row in text if row.strip().startswith("1: "))  # It decodes, and holds five blocks.
    assert as_svg(line) != as_svg(time_line(run.steps, sizes))


def test_a_request_that_writes_a_block_of_another_is_seen(ran: tuple[Run, list[RequestSpec]]) -> None:
    """Change a run so that request 1 gets a block that request 0 still holds, instead of a block of its own.

    The invariants must report the block.
    """
    run, specs = ran

    def others(step: Any) -> Any:
        first, *rest = step.block_tables
        return (first, *[(table[0], first[1]) for table in rest])

    steps = tuple(
        step._replace(block_tables=others(step)) if len(step.block_tables) == 2 and step.step < 4 else step
        for step in run.steps
    )
    verdict = check_invariants(replace(run, steps=steps), specs, REQUESTS, replace(LIMITS, available_blocks=4), OPTIONS)
    assert "was allocated to request 1, but is still held by request 0" in " ".join(
        [verdict.headline, *verdict.details]
    )


def test_rules_quote_headings_that_the_document_has() -> None:
    text = (ROOT / "docs" / "scheduling-rules-token-budget.md").read_text(encoding="utf-8")
    headings = {line.lstrip("# ") for line in text.splitlines() if line.startswith("##")}
    kinds = ("start", "prefill", "decode", "mixed", "idle")
    rules = [rule_for(kind, column) for kind in kinds for column in TOKEN_BUDGET_COLUMNS[1:]]
    rules += [*RULES.values(), rule_for_kinds("prefill", "decode"), rule_for_kinds("idle", "decode")]
    for rule in rules:
        quoted = re.findall(r'"([^"]+)"', rule)
        assert quoted, rule
        assert set(quoted) <= headings, rule
        assert set(violated(SPEC, Verdict(False, "", rule=rule))) <= set(REQUIREMENTS), rule
    assert set(CAUSES) == set(BY_COLUMN) == set(TOKEN_BUDGET_COLUMNS) - {"step"}


def test_a_time_line_shows_who_computes_and_who_is_preempted(ran: tuple[Run, list[RequestSpec]]) -> None:
    sizes = [Size(len(spec.prompt_token_ids), spec.max_tokens) for spec in ran[1]]
    line = time_line(ran[0].steps, sizes)
    text = "\n".join(as_text(line))
    assert "tokens ≤ 128" in text
    lost = next(step.step for step in ran[0].steps if step.preempted)
    lane = next(row for row in as_text(line) if row.strip().startswith("1: "))
    assert "!" in lane
    assert "c" in lane
    svg = as_svg(line)
    assert 'class="lost"' in svg
    assert f"step {lost}: " in svg
    assert "preempted: 1" in svg
    assert "tkv" not in re.sub(r"<style>.*?</style>", "", svg, flags=re.DOTALL).replace('class="tkv"', "")


def test_a_trace_has_its_columns_and_can_be_traced_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    item = {
        "name": "two",
        "limits": {"available_blocks": 2},
        "token_budget": {"max_num_batched_tokens": 64, "enable_prefix_caching": False},
        "requests": [{"prompt_len": 62, "max_tokens": 6}, {"prompt_len": 30, "max_tokens": 6}],
    }
    path = tmp_path / "w.json"
    path.write_text(json.dumps([item]), encoding="utf-8")
    assert main(["trace", str(path), "--simulate"]) == 0
    first = capsys.readouterr().out
    traced = json.loads(first)[0]
    assert traced["columns"][:2] == ["step", "scheduled"]
    assert [row[6] for row in traced["steps"] if row[6]] == [[1]]
    path.write_text(first, encoding="utf-8")
    assert main(["trace", str(path), "--simulate"]) == 0
    assert capsys.readouterr().out == first


def test_a_trace_has_as_many_blocks_as_its_block_size_allows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cache for a full batch has 16 blocks of 128 tokens, so that an engine for 20 must be built with more."""
    item = {
        "limits": {"available_blocks": 20},
        "token_budget": {"block_size": 128},
        "requests": [{"prompt_len": 129, "max_tokens": 2}],
    }
    path = tmp_path / "w.json"
    path.write_text(json.dumps([item]), encoding="utf-8")
    assert main(["trace", str(path), "--simulate"]) == 0
    traced = json.loads(capsys.readouterr().out)[0]
    assert "error" not in traced
    assert [row[7] for row in traced["steps"]] == [0, 2, 0, 0]


def test_a_search_finds_nothing_in_the_engine_as_it_is() -> None:
    result = search(SimulationDriver(), 40, seed=5, scheduler="token_budget")
    assert result.found is None
    assert result.tried >= 40


def test_a_search_counts_preempted_requests_once(
    ran: tuple[Run, list[RequestSpec]],
) -> None:
    lost = [step._replace(preempted=(1, 0)) for step in ran[0].steps[:2]]
    twice = Alone(10, 3).plus(replace(ran[0], steps=tuple(lost)))
    assert (Alone().plus(ran[0]), twice) == (Alone(3, 1), Alone(13, 5))


def test_a_search_on_a_model_knows_that_equal_prompts_have_equal_answers() -> None:
    """Two equal requests generate the same tokens, so that one can find blocks of the other's generated tokens.

    The second request is preempted and finds such a block when it starts again. The search must expect this hit.
    """
    requests = SharingRequest(60, 6), SharingRequest(60, 6, of=0, shared=60)
    workload = TokenBudgetWorkload(SchedulingLimits(512, 4, 2), OPTIONS, requests)
    session = ReferenceDriver().open(workload.setup("tiny-granite"))
    try:
        trial = try_workload(session, workload, workload.specs(vocabulary_of(resolve("tiny-granite"))))
        assert any(step.hits for step in trial.run.steps if step.step > 1)
        assert follows_the_rules(trial).passed
    finally:
        session.close()
    assert workload.expected() == workload.expected([(1, 2, 3, 4, 5, 6), (6, 5, 4, 3, 2, 1)])
    assert workload.expected() != workload.expected([(1, 2, 3, 4, 5, 6)] * 2)


def test_what_is_found_is_written_as_a_suite_that_loads(tmp_path: Path) -> None:
    requests = SharingRequest(70, 6), SharingRequest(90, 6, of=0, shared=66)
    workload = TokenBudgetWorkload(SchedulingLimits(512, 4, 4), TokenBudgetSetup(64, rules="0.32"), requests)
    suite = load_suite(write_suite(tmp_path, Found(workload, Verdict(False, "x"), "some engine", True))).suite
    assert isinstance(suite, StepsSuite)
    [case] = suite.cases
    assert FORMATS["token_budget"].options_for(case.token_budget) == workload.options
    assert case.requests == workload.as_requests()
    assert not isinstance(case.expect.steps, str)
    assert lengthen(case.expect.steps) == list(workload.expected())


def test_a_search_finds_a_fault_and_shrinks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler

    monkeypatch.setattr(TokenBudgetScheduler, "_fits", lambda self, sequence, found: True)
    found = search(SimulationDriver(), 200, seed=1, scheduler="token_budget").found
    assert found is not None
    assert len(found.workload.requests) <= 3
