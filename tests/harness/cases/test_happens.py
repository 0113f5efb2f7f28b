"""Tests of ``happens`` and ``never``: the events that must, or must not, occur in the run of a case."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.checks.happens import check_happens, events_of
from harness.drivers.reference import SimulationDriver
from harness.runs.runner import run_workload
from harness.schedulers import scheduler_named
from harness.suites.discovery import NOT_SUITES
from harness.suites.loader import load_suite
from harness.suites.prompts import model_of_run, simulated_spec, vocabulary_of
from harness.suites.schema import EVENT_NAMES, Chunking, Happening, OutputCase, Request, StepsCase
from harness.types import ChunkingSetup, EngineSetup, SchedulingLimits, Verdict
from tests.helpers.harness import a_request
from tests.helpers.paths import ROOT

PATHS = sorted(p for p in (ROOT / "suites").rglob("*.yaml") if p.name not in NOT_SUITES)
SUITES = [load_suite(path).suite for path in PATHS]


def a_case(*requests: Request, happens: Sequence[Any] = (), chunking: Chunking | None = None) -> StepsCase:
    data = {"id": "a", "requests": list(requests), "happens": list(happens), "expect": {"steps": "golden"}}
    return StepsCase.model_validate(data | {"chunking": chunking})


def run_of(case: StepsCase, **limits: int) -> tuple[Any, ...]:
    """Run a case on the reference engine's scheduler (continuous or chunked) without a model.

    Returns the arguments of ``check_happens`` for this run.
    """
    options = None if case.chunking is None else ChunkingSetup(**case.chunking.model_dump())
    name = "continuous" if options is None else "chunked"
    session = SimulationDriver().open(EngineSetup("tiny-granite", "eager", 1, 512, 4, None, name, options))
    held_to = session.reset(SchedulingLimits(**limits))
    vocabulary = vocabulary_of(model_of_run("tiny-granite"))
    specs = [simulated_spec(each, case.id, position, vocabulary) for position, each in enumerate(case.requests)]
    return scheduler_named(name), case, run_workload(session, specs, case.requests), specs, held_to, options


def names_of(case: StepsCase, **limits: int) -> list[tuple[int, str, int | None]]:
    return [(event.step, event.name, event.request) for event in events_of(*run_of(case, **limits))]


def verdict_of(case: StepsCase, **limits: int) -> Verdict:
    verdict = check_happens(*run_of(case, **limits))
    assert verdict is not None
    return verdict


def test_a_case_that_says_nothing_has_no_verdict() -> None:
    assert check_happens(*run_of(a_case(a_request(10, 3)))) is None


def test_what_happens_passes_by_name() -> None:
    case = a_case(a_request(10, 9), a_request(20, 3, join_step=3), happens=["join", {"join": 1}])
    verdict = verdict_of(case)
    assert verdict.passed
    assert verdict.headline == "happened: join, join of request 1"


@pytest.mark.parametrize(("event", "column"), [("block_taken_in_decode", "used"), ("tkv_growth", "tkv")])
def test_an_event_whose_column_was_not_observed_is_not_missed(event: str, column: str) -> None:
    scheduler, case, run, *others = run_of(a_case(a_request(10, 1), happens=[event]))
    seen = check_happens(scheduler, case, run, *others)
    assert seen is not None
    assert not seen.passed
    hidden = replace(run, steps=tuple(step._replace(**{column: None}) for step in run.steps))
    verdict = check_happens(scheduler, case, hidden, *others)
    assert verdict is not None
    assert verdict.passed


def test_an_event_of_another_scheduler_is_missed() -> None:
    assert not verdict_of(a_case(a_request(10, 3), happens=["hit"])).passed


def test_what_does_not_happen_is_named_with_what_did_instead() -> None:
    case = a_case(
        a_request(10, 9), a_request(20, 3, join_step=3, abort_step=5), happens=[{"abort_of_waiting": 1}, "tkv_fall"]
    )
    verdict = verdict_of(case)
    assert not verdict.passed
    assert verdict.headline == "no abort_of_waiting of request 1 in this run (and 1 more)"
    assert "there is abort_of_decoding of request 1 at step 5" in verdict.details[0]
    assert verdict.details[1] == "tkv_fall: there is no similar event"
    assert verdict.details[-1].startswith("happened: block_taken_in_decode, join, ")
    assert "does not test what the case is for" in verdict.rule


def test_what_never_happens_fails_where_it_does() -> None:
    case = a_case(a_request(10, 9), a_request(20, 3, join_step=3))
    wrong = verdict_of(case.model_copy(update={"never": (Happening(event="join"),)}))
    assert wrong.headline == "join of request 1 at step 4, which is listed under never"
    right = verdict_of(case.model_copy(update={"never": (Happening(event="join", request=0),)}))
    assert right.headline == "happened: -; not: join of request 0"


def test_an_event_of_another_request_is_not_it() -> None:
    case = a_case(a_request(10, 9), a_request(20, 3, join_step=3), happens=[{"join": 0}])
    assert verdict_of(case).details[0] == "join of request 0: there is join of request 1 at step 4"


@pytest.mark.parametrize(
    ("abort_step", "where", "after"),
    [
        (2, "waiting", "decode"),
        (3, "prefilling", "prefill"),
        (4, "prefilling", "decode"),
        (5, "decoding", "prefill"),
        (6, "decoding", "decode"),
        (8, "finishing", "decode"),
        (9, "ended", "decode"),
    ],
)
def test_an_abort_is_named_by_where_the_request_was(abort_step: int, where: str, after: str) -> None:
    requests = a_request(10, 12), a_request(200, 4, join_step=1, abort_step=abort_step)
    seen = names_of(a_case(*requests, chunking=Chunking()))
    assert (abort_step, f"abort_of_{where}", 1) in seen
    assert (abort_step, f"abort_after_{after}", 1) in seen
    assert sum(name.startswith("abort_of") for _, name, _ in seen) == 1


@pytest.mark.parametrize(("abort_step", "where"), [(3, "paused"), (4, "decoding"), (5, "paused"), (0, "waiting")])
def test_aborts_of_paused_and_decoding_requests_are_distinguished(abort_step: int, where: str) -> None:
    requests = a_request(39, 9, abort_step=abort_step), a_request(39, 9)
    seen = names_of(a_case(*requests, chunking=Chunking(interleave=False)), max_batch_tkv_limit=79)
    # Step 3 is the first decode: request 1 decodes, then request 0, then request 1 again.
    assert (abort_step, f"abort_of_{where}", 0) in seen


@pytest.mark.parametrize(
    ("limits", "event"),
    [
        ({"max_model_len": 128}, "fits_context_exactly"),
        ({"max_model_len": 127}, "context_short_by_one"),
        ({"max_batch_tkv_limit": 166}, "fits_batch_tkv_exactly"),
        ({"max_batch_tkv_limit": 165}, "batch_tkv_over_by_one"),
        ({"available_blocks": 4}, "fits_blocks_exactly"),
        ({"available_blocks": 3}, "blocks_short_by_one"),
    ],
)
def test_how_closely_a_request_fits(limits: dict[str, int], event: str) -> None:
    case = a_case(a_request(10, 20), a_request(10, 64))
    close = {name for _, name, _ in names_of(case, **limits) if name.endswith(("exactly", "by_one"))}
    assert close == {event}


def test_an_engine_that_breaks_the_rules_has_the_events_of_its_rows() -> None:
    scheduler, case, run, specs, held_to, options = run_of(a_case(a_request(60, 20), happens=["join"]))
    impossible = SchedulingLimits(held_to.max_model_len, held_to.max_num_seqs, 1, held_to.max_batch_tkv_limit)
    verdict = check_happens(scheduler, case, run, specs, impossible, options)
    assert verdict is not None
    assert not verdict.passed


def test_every_event_is_what_some_case_is_about() -> None:
    message = {
        happening.event for suite in SUITES for case in suite.cases for happening in getattr(case, "happens", ())
    }
    assert set(EVENT_NAMES) - message == set()


def test_every_event_is_in_the_manual() -> None:
    page = (ROOT / "docs" / "writing-cases.md").read_text(encoding="utf-8")
    assert [name for name in EVENT_NAMES if f"`{name}`" not in page] == []


def test_every_case_of_several_requests_says_what_happens_in_it() -> None:
    cases = [case for suite in SUITES for case in suite.cases if isinstance(case, StepsCase | OutputCase)]
    silent = [case.id for case in cases if len(case.requests) > 1 and not case.happens + case.never]
    assert silent == []
