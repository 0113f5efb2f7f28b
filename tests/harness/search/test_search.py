"""Tests of the search for failing workloads: it finds none on the engine, and small ones on mutations of the engine."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from checkpoints import resolve
from engine.model import inputs as batch
from engine.scheduling import padding
from engine.scheduling.continuous import admission
from engine.scheduling.continuous import scheduler as continuous
from engine.scheduling.continuous.scheduler import ContinuousScheduler
from harness.cases.lint import lint_suite
from harness.drivers.reference import ReferenceDriver, SimulationDriver
from harness.schedulers import spec
from harness.schedulers.continuous.invariants import RULES
from harness.schedulers.continuous.planned import PlannedRequest
from harness.schedulers.continuous.requirement_ids import BY_CELL, BY_INVARIANT, BY_REASON
from harness.schedulers.continuous.workloads import Workload, setup_for_search, workloads
from harness.schedulers.sizes import Sizes
from harness.search import Found, search, suite_text, write_suite
from harness.search.laws import follows_the_rules, is_independent_of_batch, try_workload
from harness.search.report import run_command
from harness.search.run import _smallest_failure
from harness.search.violated import FAILED, TOKENS
from harness.suites.loader import load_suite
from harness.suites.prompts import vocabulary_of
from harness.suites.schema import Limits, StepsSuite
from harness.suites.yaml import read_yaml
from harness.types import SchedulingLimits, Verdict
from tests.helpers.paths import ROOT

AS_BUILT = SchedulingLimits(512, 4, 35, 2048)


@pytest.mark.search
def test_nothing_is_found_on_the_engine_as_it_is() -> None:
    seen: list[tuple[int, int]] = []
    result = search(SimulationDriver(), 300, seed=1, progress=lambda tried, steps: seen.append((tried, steps)))
    assert result.found is None
    assert result.tried == 300
    assert seen[-1] == (300, result.steps)


@pytest.mark.search
def test_nothing_is_found_where_requests_stop_early() -> None:
    assert search(SimulationDriver(), 150, seed=2, early_stops=True).found is None


@pytest.mark.search
def test_nothing_is_found_on_the_model() -> None:
    result = search(ReferenceDriver(), 6, seed=3)
    assert result.found is None
    assert result.tried == 6


def reserve_one_block_too_many(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "blocks_reserved", lambda *a: padding.blocks_reserved(*a) + 1)


def never_remove_padding(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ContinuousScheduler, "_remove_padding", lambda self: None)


def ignore_running_sequences_where_tkv_grows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "fits_context", lambda new, _, tkv, most: admission.fits_context(new, [], tkv, most))


def fail_where_tkv_is_large(patch: pytest.MonkeyPatch) -> None:
    state = ContinuousScheduler.state

    def failing(self: ContinuousScheduler) -> object:
        if self._tkv > 100:
            raise RuntimeError("no more")
        return state(self)

    patch.setattr(ContinuousScheduler, "state", failing)


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (reserve_one_block_too_many, "reserved 2, expected 1"),
        (never_remove_padding, "tkv"),
        (ignore_running_sequences_where_tkv_grows, "expected a decode"),
        (fail_where_tkv_is_large, "RuntimeError: no more"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mutation_is_found_shrunk_and_written(
    plant: Callable[[pytest.MonkeyPatch], None], says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        plant(patch)
        found = search(SimulationDriver(), 5000, seed=4).found
    assert found is not None
    assert says in found.verdict.headline
    assert len(found.workload.requests) <= 3

    loaded = load_suite(write_suite(tmp_path / "new" / "folder", found))
    assert isinstance(loaded.suite, StepsSuite)
    [case] = loaded.suite.cases
    assert case.id == found.workload.case_id == loaded.path.stem
    assert case.about == found.verdict.headline
    assert case.requests == found.workload.as_requests()
    assert case.limits == Limits(**vars(found.workload.limits))
    assert case.expect.output == "none"


def test_a_failure_tells_what_the_rules_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ContinuousScheduler, "_may_join", lambda self, sequence: not self._running)
    workload = Workload(AS_BUILT, (PlannedRequest(10, 3), PlannedRequest(10, 3)))
    session = SimulationDriver().open(setup_for_search("tiny-granite"))
    verdict = follows_the_rules(try_workload(session, workload, workload.specs(None)))
    assert not verdict.passed
    assert verdict.headline.startswith("step 2 is a decode of 0, expected a prefill of 1")
    assert verdict.details[-1] == "by the rules: step 2: prefill of 1, admissible at tkv 64"


def found_on(workload: Workload, *, on_a_model: bool = False, says: str = "step 1 differs") -> Found:
    return Found(workload, Verdict(False, says), "some engine", on_a_model)


def test_what_is_written_passes_on_an_engine_that_is_right(tmp_path: Path) -> None:
    requests = (PlannedRequest(1, 3), PlannedRequest(65, 2, 1, abort_step=4), PlannedRequest(9, 70, 2))
    found = found_on(Workload(AS_BUILT, requests))
    path = write_suite(tmp_path, found)
    command = run_command(path, found)
    assert command == f'python -m pytest "{path}" --cb-simulate'
    arguments = ["-m", "pytest", str(path), "--cb-simulate", "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "1 passed, 1 skipped" in ran.stdout, ran.stdout + ran.stderr


def test_a_suite_asks_for_outputs_only_where_a_model_ran(tmp_path: Path) -> None:
    found = found_on(Workload(AS_BUILT, (PlannedRequest(1, 3),)), on_a_model=True, says='odd "words": {here}\n# too')
    suite = load_suite(write_suite(tmp_path, found)).suite
    assert isinstance(suite, StepsSuite)
    assert suite.cases[0].expect.output == "reference"
    assert suite.cases[0].about == 'odd "words": {here} # too'
    assert "--cb-simulate" not in run_command(tmp_path, found)


def test_early_stops_cannot_be_written_as_a_suite() -> None:
    workload = Workload(AS_BUILT, (PlannedRequest(1, 3, stops_after=2),))
    with pytest.raises(ValueError, match="early stops can't be written as a suite"):
        suite_text(found_on(workload))


def test_early_stops_are_not_for_models() -> None:
    with pytest.raises(ValueError, match="early_stops needs a driver that runs no LLM"):
        search(ReferenceDriver(), 1, early_stops=True)


def test_tokens_that_depend_on_batch_mates_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = (PlannedRequest(30, 20), PlannedRequest(100, 8), PlannedRequest(20, 8, abort_step=6))
    workload = Workload(AS_BUILT, requests)
    session = ReferenceDriver().open(setup_for_search("tiny-granite"))
    specs = workload.specs(vocabulary_of(resolve("tiny-granite")))
    assert is_independent_of_batch(try_workload(session, workload, specs), session).passed

    def padded_on_the_right(tables: list[list[int]], width: int) -> list[list[int]]:
        return [list(table) + [0] * (width - len(table)) for table in tables]

    monkeypatch.setattr(batch, "pad_block_tables", padded_on_the_right)
    verdict = is_independent_of_batch(try_workload(session, workload, specs), session)
    assert not verdict.passed
    assert verdict.headline.startswith("request 0: its tokens depend on its batch: token ")
    assert "in the batch and " in verdict.headline


def test_an_intermittent_failure_is_reported_as_such() -> None:
    verdicts = iter([Verdict(False, "it failed")])
    found = _smallest_failure(lambda _: next(verdicts, Verdict(True, "it did not")), workloads(), 5, 0)
    assert found is not None
    assert found[1].headline == "fails only sometimes: it failed"


def test_a_case_is_named_by_its_content() -> None:
    workload = Workload(AS_BUILT, (PlannedRequest(1, 3),))
    assert workload.case_id == Workload(AS_BUILT, (PlannedRequest(1, 3),)).case_id
    assert workload.case_id != replace(workload, limits=SchedulingLimits(512, 3, 35, 2048)).case_id


def test_workloads_have_the_requested_size() -> None:
    largest = Sizes(requests=2, prompt=5, max_tokens=4, join_step=3)

    def judge(workload: spec.Workload) -> Verdict:
        small = all(r.prompt_length <= 5 and r.max_tokens <= 4 for r in workload.requests)
        return Verdict(len(workload.requests) <= 2 and small, "too large")

    assert _smallest_failure(judge, workloads(largest), 200, 0) is None


REQUIREMENTS = read_yaml(ROOT / "suites" / "requirements.yaml").data["requirements"]


def test_every_requirement_that_may_be_violated_exists() -> None:
    named = {*chain(*BY_CELL.values(), *BY_INVARIANT.values()), *BY_REASON.values(), *TOKENS, *FAILED}
    assert named <= set(REQUIREMENTS)
    assert set(BY_INVARIANT) == set(RULES)


@pytest.mark.parametrize(
    ("breaks", "requirement"),
    [
        ({"_remove_padding": lambda self: None}, "CB-PAD-01"),
        ({"_may_join": lambda self, sequence: not self._running}, "CB-PREFILL-02"),
        ({"_free_ended": lambda self: self._ended.clear()}, "CB-IDLE-01"),
        ({"_take_blocks": lambda self: None}, "CB-BLOCK-03"),
        ({"_may_join": lambda self, sequence: True}, "CB-ADMIT-05"),
    ],
    ids=["padding", "prefill", "free", "blocks", "admission"],
)
def test_what_is_written_into_suites_is_ready_to_commit(
    breaks: dict[str, object], requirement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, broken in breaks.items():
        monkeypatch.setattr(ContinuousScheduler, name, broken)
    found = search(SimulationDriver(), 300).found
    assert found is not None
    suites = tmp_path / "suites"
    suites.mkdir()
    shutil.copy(ROOT / "suites" / "requirements.yaml", suites)
    loaded = load_suite(write_suite(suites / "scheduler_steps" / "found", found))
    lint_suite(loaded, ())
    assert loaded.suite.suite == f"scheduler_steps/found/{found.workload.case_id}"
    assert requirement in loaded.suite.cases[0].requirement, found.verdict
