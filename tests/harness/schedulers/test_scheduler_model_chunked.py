"""Tests that the model of the chunked scheduler predicts each recorded step table, and the table of each case."""

from pathlib import Path
from typing import Any

import pytest

from harness.runs.plain_decodes import shorten
from harness.schedulers.chunked.model import explain, predict
from harness.schedulers.errors import ImpossibleWorkload
from harness.schedulers.request_tokens import RequestWithTokens, requests_with_tokens
from harness.types import ChunkingSetup, SchedulingLimits
from tests.helpers.chunked_recordings import RECORDINGS, texts
from tests.helpers.golden_cases import golden_cases
from tests.helpers.narrow import present
from tests.helpers.paths import SUITES

PATHS = sorted((SUITES / "scheduler_steps").glob("chunked_*.yaml"))
AS_BUILT = SchedulingLimits(512, 4, 35, 2048)


def planned(recording: dict[str, Any]) -> list[RequestWithTokens]:
    return [
        RequestWithTokens(
            tuple(text[: request["prompt"]]),
            tuple(text[request["prompt"] :]),
            request["max_tokens"],
            request["join_step"],
        )
        for request, text in zip(recording["requests"], texts(recording["requests"]), strict=True)
    ]


@pytest.mark.parametrize("recording", RECORDINGS, ids=[r["name"] for r in RECORDINGS])
def test_it_has_every_recorded_step(recording: dict[str, Any]) -> None:
    options = ChunkingSetup(**recording["chunking"])
    rows = predict(SchedulingLimits(**recording["limits"]), options, planned(recording))
    for row, step in zip(rows, recording["steps"], strict=True):
        requests = (row.waiting, row.running, present(row.paused), row.outputs, row.finished)
        assert [row.step, row.tkv, *map(list, requests), row.used, row.reserved] == step[:9]
        assert {str(i): n for i, n in present(row.hits)} == step[9]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_has_every_golden_table(path: Path) -> None:
    """The scheduler model must predict every golden table, which confirms the table independently of an engine."""
    for case, limits, options, specs, golden in golden_cases(path):
        assert isinstance(options, ChunkingSetup)
        rows = predict(limits, options, requests_with_tokens(specs, case.requests, None))
        assert shorten(rows) == shorten(golden), case.id


def test_it_says_what_the_head_of_the_queue_waits_for() -> None:
    two = [RequestWithTokens((1,) * 64, (2,) * 3, 3), RequestWithTokens((3,) * 64, (4,) * 2, 2)]
    tight = SchedulingLimits(128, 2, 2, 2048)
    options = ChunkingSetup(chunk_size=64)
    assert explain(tight, options, two, 1) == "step 1: chunk of 0"
    message = explain(tight, options, two, 3)
    assert message == "step 3: decode of 0, 1 waits for blocks: 2 needed, 0 free, 0 of them reserved"
    assert explain(AS_BUILT, options, two, 2) == "step 2: decode of 0, 1 waits for a decode of 0"
    assert explain(AS_BUILT, options, two, 99) == "step 99: the workload is done"


def test_requests_that_can_never_continue_are_reported() -> None:
    long = RequestWithTokens((1,) * 64, (2,) * 70, 70)
    with pytest.raises(ImpossibleWorkload, match="request 0 waits for blocks: 3 needed, 2 free") as few:
        predict(SchedulingLimits(128, 2, 2, 2048), ChunkingSetup(), [long])
    with pytest.raises(ImpossibleWorkload, match="request 0 alone exceeds max_batch_tkv_limit 66 at tkv 67") as narrow:
        predict(SchedulingLimits(128, 2, 3, 66), ChunkingSetup(), [long])
    assert (few.value.limit, narrow.value.limit) == ("available_blocks", "max_batch_tkv_limit")
