"""Tests that the model of the token-budget scheduler predicts the recordings and every case of the suites."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.runs.plain_decodes import shorten
from harness.schedulers.errors import ImpossibleWorkload
from harness.schedulers.request_tokens import RequestWithTokens, requests_with_tokens
from harness.schedulers.token_budget.model import PredictedStep, explain, predict, predicted_steps
from harness.types import SchedulingLimits, TokenBudgetSetup
from tests.helpers.golden_cases import golden_cases
from tests.helpers.paths import SUITES
from tests.helpers.token_budget_recordings import RECORDED, VERSIONS

PATHS = sorted((SUITES / "scheduler_steps").glob("token_budget*.yaml"))
WORKLOADS = RECORDED["workloads"]
AS_BUILT = SchedulingLimits(512, 4, 32)


def planned(workload: dict[str, Any]) -> Iterator[RequestWithTokens]:
    """Yield the requests of a recorded workload with their tokens, for the scheduler model.

    In the recordings, requests join and are aborted before a step; in the scheduler model, after the step before it.
    """
    for request, tokens in zip(workload["requests"], workload["tokens"], strict=True):
        aborted = request.get("aborted_before_step")
        # Further tokens of an aborted request were not recorded, and nothing depends on them.
        generated = tokens if aborted is None else [*tokens, *[-1] * request["max_tokens"]][: request["max_tokens"]]
        yield RequestWithTokens(
            tuple(request["prompt"]),
            tuple(generated),
            request["max_tokens"],
            request["before_step"] - 1,
            None if aborted is None else aborted - 1,
        )


def replayed(workload: dict[str, Any], rules: str) -> list[PredictedStep]:
    options = TokenBudgetSetup(**workload["token_budget"], rules=rules)  # type: ignore[arg-type]
    return list(predicted_steps(SchedulingLimits(**workload["limits"]), options, list(planned(workload))))


def seen(step: PredictedStep) -> dict[str, Any]:
    """Return a step of the scheduler model as a row of the recordings, by column."""
    row = step.row
    return {
        "step": row.step,
        "kind": "idle" if row.kind == "start" else row.kind,
        "scheduled": [list(pair) for pair in row.scheduled or ()],
        "preempted": list(row.preempted or ()),
        "hits": [list(pair) for pair in row.hits or ()],
        "computed": [list(pair) for pair in zip(row.running, step.computed, strict=True)],
        "running": list(row.running),
        "waiting": list(row.waiting),
        "outputs": list(row.outputs),
        "finished": list(row.finished),
        "used": row.used,
        "held": [[request, list(blocks)] for request, blocks in step.held],
        "queue": list(step.free_queue),
    }


def recorded(workload: dict[str, Any], rules: str) -> Iterator[tuple[dict[str, Any], set[str]]]:
    """Yield each row of a recording, and the columns to skip in it.

    Columns are skipped if an abort follows the step.
    """
    joins: dict[int, list[int]] = {}
    aborts: dict[int, list[int]] = {}
    for number, plan in enumerate(planned(workload)):
        joins.setdefault(plan.join_step, []).append(number)
        aborts.setdefault(-1 if plan.abort_step is None else plan.abort_step, []).append(number)
    for values in workload["steps"][rules]:
        row = dict(zip(RECORDED["columns"], values, strict=True))
        gone, come = aborts.get(row["step"], []), joins.get(row["step"], []) if row["step"] else []
        row["outputs"], row["finished"] = ([pair[0] for pair in row[name]] for name in ("outputs", "finished"))
        row["hits"] = [pair for pair in row["hits"] if pair[1]]
        row["waiting"] = [request for request in [*row["waiting"], *come] if request not in gone]
        row["running"] = [request for request in row["running"] if request not in gone]
        yield row, {"used", "queue", "computed"} if gone else set()


@pytest.mark.parametrize("rules", VERSIONS)
@pytest.mark.parametrize("workload", WORKLOADS, ids=[w["name"] for w in WORKLOADS])
def test_it_has_every_column_of_every_recorded_step(workload: dict[str, Any], rules: str) -> None:
    for step, (row, left_out) in zip(replayed(workload, rules), recorded(workload, rules), strict=True):
        compared = {name: value for name, value in seen(step).items() if name not in left_out}
        assert compared == {name: row[name] for name in compared}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_has_every_golden_table(path: Path) -> None:
    """The scheduler model must predict every golden table, which confirms the table independently of an engine."""
    for case, limits, options, specs, golden in golden_cases(path):
        assert isinstance(options, TokenBudgetSetup)
        rows = predict(limits, options, requests_with_tokens(specs, case.requests, None))
        assert shorten(rows) == shorten(golden), case.id
        assert ("preemption" in case.markers) == any(row.preempted for row in rows), case.id


def test_it_says_why_the_head_waits() -> None:
    two = [RequestWithTokens((1,) * 500, (2,) * 3, 3), RequestWithTokens((3,) * 64, (4,) * 2, 2)]
    options = TokenBudgetSetup(enable_chunked_prefill=False)
    assert explain(AS_BUILT, options, two, 1) == (
        "step 1: 500 of 0 (a budget of 512), 1 waits for budget: 64 tokens in one step, 12 left of 512"
    )
    few = replace(AS_BUILT, available_blocks=8)
    assert explain(few, TokenBudgetSetup(max_num_batched_tokens=64), two, 1) == (
        "step 1: 64 of 0 (a budget of 64), 1 waits for budget: all 64 tokens are used"
    )
    assert "1 waits for a place in the batch: 1 of 1 run" in explain(replace(AS_BUILT, max_num_seqs=1), options, two, 1)


def test_it_says_who_is_preempted() -> None:
    two = [RequestWithTokens((1,) * 64, (2,) * 3, 3), RequestWithTokens((3,) * 64, (4,) * 3, 3)]
    message = explain(SchedulingLimits(512, 4, 2), TokenBudgetSetup(enable_prefix_caching=False), two, 2)
    assert message == (
        "step 2: 1 of 0 (a budget of 512), 1 preempted for blocks, no request starts after the preemption of 1"
    )


@pytest.mark.parametrize(
    ("limits", "options", "message", "limit"),
    [
        (
            SchedulingLimits(512, 4, 1),
            TokenBudgetSetup(enable_prefix_caching=False),
            "request 0 waits for blocks: 2 needed for all its 65 tokens, 1 free",
            "available_blocks",
        ),
        (
            SchedulingLimits(512, 4, 8),
            TokenBudgetSetup(max_num_batched_tokens=32, enable_chunked_prefill=False),
            "request 0 waits for budget: 64 tokens in one step, 32 left of 32",
            "max_num_batched_tokens",
        ),
        (
            SchedulingLimits(64, 4, 8),
            TokenBudgetSetup(max_num_batched_tokens=32),
            "request 0 can't compute another token, because its prompt fills the context",
            "max_model_len",
        ),
    ],
)
def test_a_request_that_can_never_end_is_impossible(
    limits: SchedulingLimits, options: TokenBudgetSetup, message: str, limit: str
) -> None:
    long = RequestWithTokens((1,) * 64, (2,) * 70, 70)
    with pytest.raises(ImpossibleWorkload, match=message) as caught:
        predict(limits, options, [long])
    assert caught.value.limit == limit
