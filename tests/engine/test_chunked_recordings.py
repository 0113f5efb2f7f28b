"""Workloads recorded from the plugin's chunked scheduler, replayed without a model: every step must be equal.

``data/chunked_recordings.json``: a prompt is its length and, where it begins like the text (prompt and generated
tokens) of an earlier request, that request and how many tokens they share. Rows: step, tkv, waiting, running, paused,
outputs, finished, used blocks, reserved blocks, usable hit blocks by request.
"""

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig, Limits
from engine.core import EngineCore
from engine.request import Request, SamplingParams
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from engine.simulation import NoModel, simulated_core

RECORDINGS = json.loads((Path(__file__).parents[1] / "data" / "chunked_recordings.json").read_text(encoding="utf-8"))


def texts(requests: list[dict[str, Any]]) -> list[list[int]]:
    """Return prompt and generated tokens of each request; tokens that are not shared are all different."""
    fresh, made = count(1), []
    for request in requests:
        other, shared = request.get("shares", (0, 0))
        begin = made[other][:shared] if shared else []
        length = request["prompt"] + request["max_tokens"]
        made.append(begin + [next(fresh) for _ in range(length - len(begin))])
    return made


def core_for(recording: dict[str, Any], executor: NoModel) -> EngineCore:
    limits = recording["limits"]
    config = EngineConfig(
        scheduler="chunked",
        max_model_len=-(-limits["max_model_len"] // 64) * 64,
        max_num_seqs=limits["max_num_seqs"],
        num_blocks=256,
        max_batch_tkv_limit=limits["max_batch_tkv_limit"],
        **recording["chunking"],
    )
    core = simulated_core(config, executor)
    core.reset(Limits(**limits))
    return core


def row(core: EngineCore, step: int, outputs: tuple[str, ...], finished: tuple[str, ...]) -> list[Any]:
    seen = core.state()
    assert seen.chunked is not None
    ids = (seen.waiting, seen.running, seen.chunked.paused, outputs, finished)
    hits = dict(seen.chunked.usable_hit_blocks)
    return [step, seen.tkv, *[list(map(int, i)) for i in ids], seen.n_used_blocks, seen.n_reserved_blocks, hits]


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
