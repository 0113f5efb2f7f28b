"""A fake of vLLM and of sendnn-inference for tests of the driver ``vllm``. It plays back the steps of a recorded run.

The run was recorded from sendnn-inference 2.6.3 on vLLM 0.27.1. It has two requests with the same prompt of 200 tokens,
in chunks of 128, and ``max_tokens`` 3 and 2; the first request has ``logprobs: 1``. The fake objects have exactly the
attributes that the driver uses.
"""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from harness.drivers.vllm import chunked, started
from tests.helpers.fake_vllm import FakeCore, fake_llm, install, output

NAMES = ("0-0", "1-1")
FIRST, TWIN = (1, 2, 3, 4), (1, 2, 3, 5)

STEPS: list[dict[str, Any]] = [
    {"chunk": True, "tkv": 200, "waiting": "1", "running": "0", "reserved": 2, "held": {0: (1, 2)}},
    {"chunk": True, "tkv": 200, "waiting": "1", "running": "0", "held": {0: FIRST}, "outputs": [(0, 425)]},
    {"chunk": False, "tkv": 201, "waiting": "1", "running": "0", "held": {0: FIRST}, "outputs": [(0, 313)]},
    {"chunk": True, "tkv": 200, "running": "10", "held": {0: FIRST, 1: TWIN}, "hit": 2, "outputs": [(1, 425)]},
    {"chunk": False, "tkv": 202, "held": {0: FIRST, 1: TWIN}, "hit": 2, "outputs": [(1, 313), (0, 501)]},
    {"chunk": False, "tkv": 0},
]


class FakeManager:
    """A fake of vLLM's KVCacheManager with the attributes that the driver reads.

    The driver can call ``__init__`` again.
    """

    def __init__(self, **made_with: Any) -> None:
        self.made_with = made_with
        self.coordinator = SimpleNamespace(single_type_managers=[SimpleNamespace(req_to_blocks=defaultdict(list))])

    @property
    def held(self) -> Any:
        return self.coordinator.single_type_managers[0].req_to_blocks


class FakeChunkedCore(FakeCore):
    """A fake EngineCore of the plugin's chunked scheduler that plays back recorded steps."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = list(STEPS)
        scheduler = self.scheduler
        scheduler.max_batch_tkv_limit = 2048
        scheduler.paused_decoding_requests, scheduler.ongoing_prefills = [], []
        scheduler.total_reserved_blocks, scheduler.reserved_blocks = 0, {}
        scheduler.request_last_decode_step = defaultdict(int)
        scheduler.step_is_prefill = False
        scheduler.kv_cache_config = SimpleNamespace(num_blocks=36)
        scheduler.kv_cache_manager = FakeManager()
        scheduler.cache_config = SimpleNamespace(enable_prefix_caching=True)
        scheduler.log_stats, scheduler.block_size, scheduler.hash_block_size = False, 64, 64
        self.flushing = False
        scheduler.has_requests = lambda: bool(scheduler.requests) or self.flushing
        self.runner = SimpleNamespace(requests={})
        self.model_executor.driver_worker.worker.model_runner = self.runner

    def _schedule(self) -> Any:
        step = self.ahead[0]
        self.scheduler.step_is_prefill = step["chunk"]
        self.scheduler.kv_cache_manager.held.update(_blocks(step))
        return SimpleNamespace(total_num_scheduled_tokens=step["tkv"], scheduled_new_reqs=[])

    def _step(self) -> tuple[dict[int, Any], bool]:
        self.scheduler.schedule()
        step, scheduler = self.ahead.pop(0), self.scheduler
        request = {str(i): SimpleNamespace(request_id=name) for i, name in enumerate(NAMES)}
        waiting, running = step.get("waiting", ""), step.get("running", "")
        scheduler.tkv, scheduler.total_reserved_blocks = step["tkv"], step.get("reserved", 0)
        scheduler.waiting, scheduler.running = [request[i] for i in waiting], [request[i] for i in running]
        self.flushing = bool(scheduler.requests) and not running + waiting
        scheduler.requests = {NAMES[int(i)]: None for i in running + waiting}
        # The blocks of ended requests are free by now, but the model runner still has them.
        held = _blocks(step)
        scheduler.kv_cache_manager.held.clear()
        scheduler.kv_cache_manager.held.update({name: held[name] for name in scheduler.requests if name in held})
        self.runner.requests = {
            NAMES[i]: SimpleNamespace(usable_blocks=step["hit"] if i else 0) for i in step.get("held", {})
        }
        outputs = [output(NAMES[i], token) for i, token in step.get("outputs", ())]
        return ({0: SimpleNamespace(outputs=outputs)} if outputs else {}), bool(outputs)


def _blocks(step: dict[str, Any]) -> dict[str, list[SimpleNamespace]]:
    return {NAMES[i]: [SimpleNamespace(block_id=b) for b in ids] for i, ids in step.get("held", {}).items()}


def install_chunked(patch: pytest.MonkeyPatch) -> None:
    """Replace the modules of vLLM and of the plugin by fakes, so that the driver uses a fake LLM."""
    install(patch)
    patch.setattr(chunked, "version_of", lambda package: "2.6.3")
    llm = fake_llm()
    llm.llm_engine.engine_core.engine_core = FakeChunkedCore()
    llm.llm_engine.input_processor = SimpleNamespace(
        generation_config_fields={}, renderer=SimpleNamespace(get_eos_token_id=lambda: 0)
    )
    patch.setattr(started, "start", lambda plugin, setup: llm)
