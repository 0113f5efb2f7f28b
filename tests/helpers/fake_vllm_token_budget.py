"""A fake of vLLM without a plugin, for tests of the driver ``vllm``. It plays back the steps of a recorded run.

The run was recorded from vLLM 0.27.1 on its CPU back end, with a budget of 128 tokens and 3 blocks. Its two requests
have prompts of 126 and 70 tokens with the same first 64 tokens, and ``max_tokens`` 5 and 4. Request 1 finds a block in
the prefix cache, is preempted, and starts again. The fake objects have exactly the attributes that the driver uses.
"""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from harness.drivers.vllm import started
from tests.helpers.fake_vllm import FakeCore, fake_llm, install, output

NAMES = ("0-0", "1-1")
PROMPTS = (126, 70)

STEPS: list[dict[str, Any]] = [
    {"tokens": {0: 126, 1: 2}, "new": {0: 0, 1: 64}, "running": "01", "held": {0: (1, 2), 1: (1, 3)}, "outputs": "0"},
    {
        "tokens": {0: 1, 1: 4},
        "cached": {0: 126, 1: 66},
        "running": "01",
        "held": {0: (1, 2), 1: (1, 3)},
        "outputs": "01",
    },
    {
        "tokens": {0: 1, 1: 1},
        "cached": {0: 127, 1: 70},
        "running": "01",
        "held": {0: (1, 2), 1: (1, 3)},
        "outputs": "01",
    },
    {
        "tokens": {0: 1},
        "cached": {0: 128},
        "preempted": "1",
        "waiting": "1",
        "running": "0",
        "held": {0: (1, 2, 3)},
        "outputs": "0",
    },
    {"tokens": {0: 1}, "cached": {0: 129}, "waiting": "1", "held": {0: (1, 2, 3)}, "outputs": "0"},
    {"tokens": {1: 8}, "cached": {1: 64}, "resumed": "1", "running": "1", "held": {1: (1, 3)}, "outputs": "1"},
    {"tokens": {1: 1}, "cached": {1: 72}, "held": {1: (1, 3)}, "outputs": "1"},
    {"tokens": {}},
]


class FakeManager:
    """A fake of vLLM's KVCacheManager with the attributes that the driver reads.

    The driver can call ``__init__`` again.
    """

    def __init__(
        self,
        kv_cache_config: Any,
        max_model_len: int,
        scheduler_block_size: int,
        hash_block_size: int,
        max_in_flight_tokens: int | None = None,
        enable_caching: bool = True,
    ) -> None:
        self.made_with = (kv_cache_config.num_blocks, max_model_len, max_in_flight_tokens, enable_caching)
        self.block_sizes = (scheduler_block_size, hash_block_size)
        self.coordinator = SimpleNamespace(single_type_managers=[SimpleNamespace(req_to_blocks=defaultdict(list))])

    @property
    def held(self) -> Any:
        return self.coordinator.single_type_managers[0].req_to_blocks


class FakeTokenBudgetCore(FakeCore):
    """A fake EngineCore of vLLM's own scheduler that plays back recorded steps."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = list(STEPS)
        scheduler = self.scheduler
        del scheduler.tkv, scheduler.max_batch_tkv_limit, scheduler.n_free_blocks
        scheduler.vllm_config = SimpleNamespace(model_config=scheduler.model_config, max_in_flight_tokens=128)
        scheduler.scheduler_config.watermark = 0.0
        scheduler.max_num_scheduled_tokens = 512
        scheduler.kv_cache_config = SimpleNamespace(num_blocks=33)
        scheduler.cache_config = SimpleNamespace(enable_prefix_caching=True)
        scheduler.log_stats, scheduler.block_size, scheduler.hash_block_size = False, 64, 64
        scheduler.kv_cache_manager = FakeManager(scheduler.kv_cache_config, 512, 64, 64)
        self.flushing = False
        scheduler.has_requests = lambda: bool(scheduler.requests) or self.flushing
        self.got = [0, 0]

    def _schedule(self) -> Any:
        step = self.ahead[0]
        self._see(step, ended="")
        self.scheduler.requests = {
            NAMES[i]: SimpleNamespace(num_tokens=PROMPTS[i] + self.got[i]) for i in range(len(NAMES))
        }
        cached = step.get("cached", {})
        return SimpleNamespace(
            total_num_scheduled_tokens=sum(step["tokens"].values()),
            num_scheduled_tokens={NAMES[i]: count for i, count in step["tokens"].items()},
            scheduled_new_reqs=[
                SimpleNamespace(req_id=NAMES[i], num_computed_tokens=found) for i, found in step.get("new", {}).items()
            ],
            scheduled_cached_reqs=SimpleNamespace(
                req_ids=[NAMES[i] for i in cached],
                num_computed_tokens=list(cached.values()),
                resumed_req_ids={NAMES[int(i)] for i in step.get("resumed", "")},
            ),
            preempted_req_ids={NAMES[int(i)] for i in step.get("preempted", "")},
        )

    def _see(self, step: dict[str, Any], ended: str) -> None:
        request = [SimpleNamespace(request_id=name) for name in NAMES]
        self.scheduler.waiting = [request[int(i)] for i in step.get("waiting", "")]
        self.scheduler.running = [request[int(i)] for i in step.get("running", "")]
        held = self.scheduler.kv_cache_manager.held
        held.clear()
        for i, ids in step.get("held", {}).items():
            if str(i) not in ended:
                held[NAMES[i]] = [SimpleNamespace(block_id=block) for block in ids]

    def _step(self) -> tuple[dict[int, Any], bool]:
        self.scheduler.schedule()
        step = self.ahead.pop(0)
        there = step.get("running", "") + step.get("waiting", "")
        ended = "".join(i for i in step.get("outputs", "") if i not in there)
        self._see(step, ended)
        self.scheduler.requests = {NAMES[int(i)]: None for i in there}
        self.flushing = bool(ended)
        for i in step.get("outputs", ""):
            self.got[int(i)] += 1
        outputs = [output(NAMES[int(i)], 5) for i in step.get("outputs", "")]
        return ({0: SimpleNamespace(outputs=outputs)} if outputs else {}), bool(outputs)


def install_token_budget(patch: pytest.MonkeyPatch) -> None:
    """Replace the modules of vLLM by fakes, so that the driver uses a fake LLM."""
    install(patch)
    llm = fake_llm()
    core, client = FakeTokenBudgetCore(), llm.llm_engine.engine_core
    client.engine_core, client.shutdown = core, lambda: core.calls.append("shutdown")
    llm.llm_engine.input_processor = SimpleNamespace(
        generation_config_fields={}, renderer=SimpleNamespace(get_eos_token_id=lambda: 0)
    )
    patch.setattr(started, "start", lambda plugin, setup: llm)
