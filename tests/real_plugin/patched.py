"""A pytest plugin that changes one line of the vLLM plugin's scheduler in memory while suites run.

    PATCHED=batch_tkv .venv-vllm/bin/python -m pytest -p tests.real_plugin.patched --cb-driver vllm --cb-simulate \\
        suites/scheduler_steps/volume_limit.yaml
    PATCHED=turns .venv-sendnn-inference/bin/python -m pytest -p tests.real_plugin.patched --cb-driver vllm \\
        --cb-simulate suites/scheduler_steps/chunked_turns.yaml

With PATCHED=each, each change is applied only during the case that must detect it.
"""

import importlib
import inspect
import os
import textwrap
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from harness.drivers.vllm.environment import prepare
from harness.drivers.vllm.plugins import Plugin, find_plugin

SCHEDULERS = {
    "vllm-spyre": "vllm_spyre.v1.core.scheduler:ContinuousBatchingSpyreScheduler",
    "sendnn-inference": "sendnn_inference.v1.core.scheduler:ChunkedPrefillSpyreScheduler",
}
CONTEXT = "request.max_tokens <= (max_context_len - tkv)"
BATCH_TKV = "max_batch_tkv <= int(max_batch_tkv_limit)"
BATCH = "len(self.running) + len(self.waiting) < self.max_num_running_reqs"
ROOM = "num_running + len(self.waiting) < self.max_num_running_reqs"
PAUSED = "predicted_batch_tkv <= self.max_batch_tkv_limit"
TURN = "len(decoding_requests) > 0"
LACKING = "blocks > available_blocks"


class Change(NamedTuple):
    """The method, the original line, the changed line, and the case that must detect the change."""

    method: str
    old: str
    new: str
    case: str


ONE_TKV = {
    "batch": Change("can_schedule", BATCH, f"{BATCH} - 1", "batch-is-filled-exactly"),
    "context": Change("can_schedule", CONTEXT, CONTEXT.replace("<=", "<"), "joiner-fits-the-context-exactly"),
    "padding": Change(
        "can_schedule", "num_blocks_required -= num_fully_padded_blocks", "pass", "padding-that-is-cut-is-not-reserved"
    ),
    "batch_tkv": Change(
        "check_batch_tkv_limit", BATCH_TKV, BATCH_TKV.replace("<=", "<"), "requests-use-the-full-volume"
    ),
}
CHUNKED = {
    "batch": Change("_satisfies_first_chunk_constraints", ROOM, f"{ROOM} - 1", "a-place-in-the-batch-is-enough"),
    "blocks": Change("schedule", LACKING, LACKING.replace(">", ">="), "two-worst-cases-just-fit"),
    "turns": Change("_has_scheduling_priority", TURN, TURN.replace("0", "1"), "chunks-take-turns-with-decodes"),
    "batch_tkv": Change("_can_decode_all_requests", PAUSED, PAUSED.replace("<=", "<"), "just-within-the-volume"),
}
CHANGES = {"vllm-spyre": ONE_TKV, "sendnn-inference": CHUNKED}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Apply one change at a time."""
    plugin = find_plugin()
    assert plugin is not None, "the real plugin is not installed here"
    wanted = os.environ["PATCHED"]
    case = item.name.partition("[")[0]
    known = CHANGES[plugin.package]
    changes = [c for name, c in known.items() if name == wanted or (wanted == "each" and c.case == case)]
    if not changes:
        return (yield)
    with changed(changes[0], plugin):
        return (yield)


@contextmanager
def changed(change: Change, plugin: Plugin) -> Iterator[None]:
    """Apply a change to the plugin's scheduler, and undo it afterwards."""
    prepare(plugin)
    module, _, name = SCHEDULERS[plugin.package].partition(":")
    scheduler = importlib.import_module(module)
    of = getattr(scheduler, name)
    as_it_was = getattr(of, change.method)
    source = textwrap.dedent(inspect.getsource(as_it_was))
    assert source.count(change.old) == 1, f"{change.method} of this version does not have {change.old!r} just once"
    made: dict[str, object] = {}
    exec(source.replace(change.old, change.new), vars(scheduler), made)
    setattr(of, change.method, made[change.method])
    try:
        yield
    finally:
        setattr(of, change.method, as_it_was)
