"""Replay workloads recorded from the plugin's chunked scheduler, without a model: every step must be equal."""

from typing import Any

import pytest

from engine.request import Request, SamplingParams
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from engine.simulation import NoModel
from tests.helpers.chunked_recordings import RECORDINGS, core_for, row, texts


@pytest.mark.parametrize("recording", RECORDINGS, ids=[r["name"] for r in RECORDINGS])
def test_every_step_is_as_recorded(recording: dict[str, Any]) -> None:
    executor, made = NoModel(), texts(recording["requests"])
    core = core_for(recording, executor)

    def join(step: int) -> None:
        for number, (request, text) in enumerate(zip(recording["requests"], made, strict=True)):
            if request["join_step"] == step:
                length, budget = request["prompt"], request["max_tokens"]
                executor.scripts[str(number)] = text[length:]
                params = SamplingParams(temperature=0, max_tokens=budget, ignore_eos=True)
                core.add_request(Request(str(number), tuple(text[:length]), params))

    join(0)
    rows = [row(core, 0, (), ())]
    for step in range(1, len(recording["steps"])):
        record = core.step()
        join(step)
        rows.append(row(core, step, record.request_outputs, record.finished_requests))
        assert isinstance(core.scheduler, ChunkedScheduler)
        core.scheduler.pool.check_integrity()
    assert rows == recording["steps"]
    assert not core.has_work


def test_all_are_there() -> None:
    assert len(RECORDINGS) == 37
    assert sum(len(recording["steps"]) for recording in RECORDINGS) == 1458
