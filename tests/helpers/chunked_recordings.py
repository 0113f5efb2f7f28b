"""Workloads recorded from the chunked scheduler of sendnn-inference.

In ``data/chunked_recordings.json``, ``prompt`` is the length of a request's prompt in tokens. If the prompt begins with
the same tokens as an earlier request (its prompt and generated tokens), ``shares`` has the number of that request and
the number of tokens that they share. The columns of a row are: step, tkv, waiting, running, paused, outputs, finished,
used blocks, reserved blocks, and the blocks that each request's prefill skipped.
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
    """Return the prompt and generated tokens of each request. Two tokens are equal only if requests share them."""
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
