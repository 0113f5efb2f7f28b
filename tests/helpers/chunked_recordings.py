"""Workloads recorded from the plugin's chunked scheduler.

``data/chunked_recordings.json``: a prompt is its length and, where it begins like the text (prompt and generated
tokens) of an earlier request, that request and how many tokens they share. Rows: step, tkv, waiting, running, paused,
outputs, finished, used blocks, reserved blocks, usable hit blocks by request.
"""

import json
from itertools import count
from typing import Any

from engine.config import EngineConfig, Limits
from engine.core import EngineCore
from engine.simulation import NoModel, simulated_core
from tests.helpers.paths import DATA

RECORDINGS = json.loads((DATA / "chunked_recordings.json").read_text(encoding="utf-8"))


def texts(requests: list[dict[str, Any]]) -> list[list[int]]:
    """Return prompt and generated tokens of each request; tokens that are not shared are all different."""
    fresh = count(1)
    made: list[list[int]] = []
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
