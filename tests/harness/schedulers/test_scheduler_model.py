"""Tests that the scheduler model predicts every golden table, and explains why a request waits."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.config import EngineConfig, resolve_limits
from engine.config import Limits as EngineLimits
from harness.golden.tables import golden_path, read_golden
from harness.runs.plain_decodes import lengthen
from harness.schedulers.continuous.model import explain, filled_in, predict
from harness.schedulers.continuous.planned import PlannedRequest
from harness.schedulers.errors import ImpossibleWorkload
from harness.suites.expand import Expanded, expand
from harness.suites.loader import load_suite
from harness.suites.schema import Request, StepsCase
from harness.types import EngineSetup, SchedulingLimits, StepRow
from tests.helpers.paths import SUITES

SETUP = EngineSetup("tiny-granite", "eager", 1, 512, 4)
AS_BUILT = SchedulingLimits(512, 4, 35, 2048)


def limited(**limits: int) -> SchedulingLimits:
    return replace(AS_BUILT, **limits)


def cases_with_tables() -> list[tuple[Path, Expanded]]:
    """Return one test per case, with its suite. A schedule does not depend on the backend or the model."""
    found = {}
    for path in sorted((SUITES / "scheduler_steps").glob("*.yaml")):
        for test in expand(load_suite(path).suite, ["tiny-granite"]):
            # The models of other schedulers are tested in modules of their own.
            if isinstance(test.case, StepsCase) and test.configuration.scheduler in ("continuous", "static"):
                found[path, test.index, test.configuration.max_num_seqs] = test
    return [(path, test) for (path, _, _), test in found.items()]


def planned(position: int, request: Request, rows: list[StepRow]) -> PlannedRequest:
    """Return a request for the scheduler model, with its number in the case as ``position``.

    If the request ends before ``max_tokens``, the number of its tokens is read from the golden table.
    """
    length = request.prompt.random_tokens or len(request.prompt.token_ids or ())
    stops_after = None
    if not request.runs_to_max_tokens and any(position in row.finished for row in rows):
        stops_after = sum(position in row.outputs for row in rows)
    return PlannedRequest(length, request.max_tokens, request.join_step, request.abort_step, stops_after)


@pytest.mark.parametrize(("path", "test"), cases_with_tables(), ids=lambda v: getattr(v, "name", None))
def test_every_table_of_the_suites_is_as_predicted(path: Path, test: Expanded) -> None:
    case = test.case
    assert isinstance(case, StepsCase)
    if any(request.prompt.text is not None for request in case.requests):
        pytest.skip("the length of a text is for a tokenizer to say")
    rows = read_golden(golden_path(path, case.id), "") if case.expect.steps == "golden" else case.expect.steps
    table = lengthen(rows)
    limits = filled_in(SchedulingLimits(**test.limits.model_dump()), test.setup)
    requests = [planned(position, request, table) for position, request in enumerate(case.requests)]
    predicted = {row.step: row for row in predict(limits, requests)}
    for row in table:
        assert predicted[row.step] == row, explain(limits, requests, row.step)
    if case.expect.steps == "golden":
        assert len(predicted) == table[-1].step + 1


@pytest.mark.parametrize("limits", [{}, {"max_num_seqs": 2}, {"available_blocks": 9, "max_batch_tkv_limit": 300}])
@pytest.mark.parametrize(
    ("context", "batch", "num_blocks"), [(512, 4, None), (1024, 8, None), (512, 4, 22), (192, 3, 14)]
)
def test_limits_are_filled_in_as_the_engine_fills_them_in(
    context: int, batch: int, num_blocks: int | None, limits: dict[str, int]
) -> None:
    config = EngineConfig(max_model_len=context, max_num_seqs=batch, num_blocks=num_blocks)
    setup = EngineSetup("tiny-granite", "eager", 1, context, batch, num_blocks)
    filled = filled_in(SchedulingLimits(**limits), setup)
    assert vars(filled) == vars(resolve_limits(config, EngineLimits(**limits)))


def test_an_aborted_sequence_holds_its_blocks_for_one_more_observation() -> None:
    table = predict(AS_BUILT, [PlannedRequest(10, 5, abort_step=3), PlannedRequest(10, 3)])
    assert table == (
        StepRow(0, 0, (0, 1), (), (), (), 0, 0),
        StepRow(1, 64, (1,), (0,), (0,), (), 2, 1),
        StepRow(2, 64, (), (1, 0), (1,), (), 4, 2),
        StepRow(3, 65, (), (1,), (1, 0), (), 4, 4),
        StepRow(4, 66, (), (), (1,), (1,), 2, 2),
        StepRow(5, 0, (), (), (), (), 0, 0),
    )


def test_an_aborted_request_that_waits_just_goes() -> None:
    table = predict(limited(max_num_seqs=1), [PlannedRequest(10, 2), PlannedRequest(10, 3, abort_step=1)])
    assert [row.waiting for row in table] == [(0, 1), (), (), ()]


def test_an_early_stop_gives_back_what_was_reserved_for_the_rest() -> None:
    table = predict(AS_BUILT, [PlannedRequest(64, 100, stops_after=2)])
    assert [(row.tkv, row.finished, row.reserved, row.used) for row in table] == [
        (0, (), 0, 0),
        (64, (), 3, 1),
        (65, (0,), 3, 2),
        (0, (), 0, 0),
    ]


def test_steps_continue_while_a_request_has_not_joined() -> None:
    table = predict(AS_BUILT, [PlannedRequest(1, 1), PlannedRequest(1, 1, join_step=4)])
    assert [row.tkv for row in table] == [0, 64, 0, 0, 0, 64, 0]
    assert len(predict(AS_BUILT, [PlannedRequest(1, 1, join_step=3, abort_step=9)])) == 10


def test_the_last_to_end_is_alone_then_and_not_held_to_the_batch_tkv() -> None:
    """The batch × tkv limit (rule 5) applies only while other sequences run. A single sequence may always continue."""
    requests = [PlannedRequest(1, 2), PlannedRequest(1, 68)]
    assert explain(limited(max_batch_tkv_limit=130), requests, 2) == "step 2: prefill of 1, admissible at tkv 64"
    assert explain(limited(max_batch_tkv_limit=129), requests, 2) == (
        "step 2: decode of 0, 1 waits for batch x tkv: 2 x 65 = 130 exceeds 129"
    )


@pytest.mark.parametrize(
    ("limits", "requests", "step", "phrase"),
    [
        ({}, [(49, 5)], 0, "the state before any step"),
        ({}, [(49, 5)], 1, "step 1: prefill of 0, nothing runs"),
        ({}, [(49, 5)], 2, "step 2: decode of 0, nothing waits"),
        ({}, [(49, 1)], 2, "step 2: nothing to run, nothing waits"),
        ({}, [(49, 1)], 3, "step 3: the workload is done"),
        ({}, [(49, 5), (90, 5)], 2, "step 2: prefill of 1, admissible at tkv 64"),
        ({"max_num_seqs": 1}, [(49, 5), (9, 5)], 2, "step 2: decode of 0, 1 waits for batch: 1 of 1"),
        (
            {"max_model_len": 128},
            [(49, 18), (30, 55, 16)],
            17,
            "step 17: decode of 0, 1 waits for context: 55 tokens requested, 49 left at tkv 79",
        ),
        (
            {"max_model_len": 192},
            [(49, 67), (70, 4)],
            2,
            "step 2: decode of 0, 1 waits for context: sequence 0 needs 67 tokens, 64 left at tkv 128, "
            "grown from 64 for a prompt of 70",
        ),
        (
            {"max_model_len": 128},
            [(49, 10), (70, 4)],
            2,
            "step 2: decode of 0, 1 waits for context: 4 tokens requested, 0 left at tkv 128, "
            "grown from 64 for a prompt of 70",
        ),
        (
            {"available_blocks": 3},
            [(49, 3), (49, 3)],
            2,
            "step 2: decode of 0, 1 waits for blocks: 2 needed, 1 of 3 not reserved",
        ),
        (
            {"max_batch_tkv_limit": 257},
            [(64, 2), (65, 2)],
            2,
            "step 2: decode of 0, 1 waits for batch x tkv: 2 x 129 = 258 exceeds 257",
        ),
        (
            {"max_num_seqs": 1, "available_blocks": 3},
            [(49, 3), (49, 3)],
            2,
            "step 2: decode of 0, 1 waits for batch: 1 of 1; blocks: 2 needed, 1 of 3 not reserved",
        ),
    ],
)
def test_why_a_request_waits(limits: dict[str, int], requests: list[tuple[int, ...]], step: int, phrase: str) -> None:
    assert explain(limited(**limits), [PlannedRequest(*request) for request in requests], step) == phrase


def test_a_request_that_never_fits_is_impossible() -> None:
    message = r"request 1 \(prompt 60, max_tokens 66\) needs 3 blocks .* 2 are"
    with pytest.raises(ImpossibleWorkload, match=message) as caught:
        predict(limited(available_blocks=2), [PlannedRequest(1, 1), PlannedRequest(60, 66)])
    assert caught.value.limit == "available_blocks"


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt_length": 0},
        {"max_tokens": 0},
        {"join_step": -1},
        {"join_step": 5, "abort_step": 4},
        {"stops_after": 0},
    ],
)
def test_what_is_no_request_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{list(wrong)[-1]}.* must|must .*{list(wrong)[-1]}"):
        PlannedRequest(**{"prompt_length": 1, "max_tokens": 1} | wrong)


def test_limits_are_required() -> None:
    with pytest.raises(ValueError, match="these limits are not known: max_model_len"):
        predict(SchedulingLimits(), [PlannedRequest(1, 1)])
