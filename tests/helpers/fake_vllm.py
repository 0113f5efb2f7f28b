"""A fake of vLLM and of vllm-spyre for tests of the driver ``vllm``. It plays back the steps of a recorded run.

The run was recorded from vllm-spyre 1.6.1 on vLLM 0.14.1. It has two requests: prompts of 60 and 10 tokens, and
``max_tokens`` 3 and 2; the first request has ``logprobs: 2``. The fake objects have exactly the attributes that the
driver uses.
"""

import sys
from collections import defaultdict
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy
import pytest

from harness.drivers.vllm import started

NAMES = ("0-0", "1-1")


def logprobs(ids: list[int], values: list[float]) -> tuple[Any, Any, Any, None]:
    """Return a fake of vLLM's LogprobsLists for one position, with these token ids and their logprobs."""
    return numpy.array([ids]), numpy.array([values], dtype="float32"), numpy.array([1]), None


def output(name: str, token: int, *more: tuple[list[int], list[float]]) -> SimpleNamespace:
    """Return a fake EngineCoreOutput with one token. ``more`` is empty or one pair: token ids, and their logprobs."""
    return SimpleNamespace(request_id=name, new_token_ids=[token], new_logprobs=logprobs(*more[0]) if more else None)


TWO = ([330, 330, 499], [-2.0415184, -2.0415184, -2.8749073])
ONE = ([50], [-1.9965822])
WIDER = ([66, 66, 17], [-0.3403746, -0.3403746, -2.4154053])
LATER = ([330, 330, 90], [-1.4865195, -1.4865195, -2.6389422])
LAST = ([81, 81, 330], [-1.8525721, -1.8525721, -2.0638847])

STEPS: list[dict[str, Any]] = [
    {"new": 1, "tkv": 64, "waiting": "1", "running": "0", "blocks": {0: [1]}, "outputs": [(0, 330, TWO)]},
    {"new": 1, "tkv": 64, "running": "10", "blocks": {0: [1], 1: [2]}, "outputs": [(1, 50, ONE)]},
    {"tkv": 65, "running": "0", "blocks": {0: [1, 3], 1: [2, 4]}, "outputs": [(1, 66, WIDER), (0, 330, LATER)]},
    {"tkv": 66, "running": "", "blocks": {0: [1, 3]}, "outputs": [(0, 81, LAST)]},
    {"tkv": 0, "running": "", "blocks": {}, "outputs": []},
]


class FakeCore:
    """A fake EngineCore that plays back recorded steps. ``calls`` lists the calls of its methods."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.ahead = list(STEPS)
        config = SimpleNamespace(max_model_len=512)
        self.scheduler: Any = SimpleNamespace(
            tkv=0,
            waiting=[],
            running=[],
            requests={},
            model_config=config,
            vllm_config=SimpleNamespace(model_config=config),
            max_model_len=512,
            max_num_running_reqs=4,
            scheduler_config=SimpleNamespace(max_num_seqs=4),
            max_batch_tkv_limit="2048",
            n_free_blocks=0,
            _cache_check_batch_tkv_limit={("0",): {}},
            schedule=self._schedule,
            has_requests=lambda: bool(self.scheduler.requests) or self._held(),
        )
        self.runner = SimpleNamespace(
            n_blocks=35,
            block_pool=None,
            req_ids2num_reserved_blocks={},
            kv_cache_manager=SimpleNamespace(req_to_blocks=defaultdict(list)),
        )
        self.runner._set_blocks = self._set_blocks
        worker = SimpleNamespace(worker=SimpleNamespace(model_runner=self.runner))
        self.model_executor = SimpleNamespace(driver_worker=worker)
        self.step_fn = self._step

    def _set_blocks(self, num_blocks: int) -> None:
        self.runner.n_blocks, self.runner.block_pool = num_blocks - 1, f"a pool of {num_blocks}"
        self.runner.kv_cache_manager = SimpleNamespace(req_to_blocks=defaultdict(list))

    def _held(self) -> bool:
        return bool(self.runner.req_ids2num_reserved_blocks)

    def _schedule(self) -> Any:
        new = self.ahead[0].get("new", 0)
        return SimpleNamespace(
            total_num_scheduled_tokens=len(self.ahead[0]["outputs"]), scheduled_new_reqs=list(range(new))
        )

    def _step(self) -> tuple[dict[int, Any], bool]:
        self.scheduler.schedule()
        step = self.ahead.pop(0)
        request = {str(i): SimpleNamespace(request_id=name) for i, name in enumerate(NAMES)}
        self.scheduler.tkv = step["tkv"]
        self.scheduler.waiting = [request[i] for i in step.get("waiting", "")]
        self.scheduler.running = [request[i] for i in step["running"]]
        unfinished = step["running"] + step.get("waiting", "")
        self.scheduler.requests = {NAMES[int(i)]: None for i in unfinished}
        held = self.runner.kv_cache_manager.req_to_blocks
        held.clear()
        held.update({NAMES[i]: [SimpleNamespace(block_id=b) for b in ids] for i, ids in step["blocks"].items()})
        held["gone"] = []
        self.runner.req_ids2num_reserved_blocks = {NAMES[i]: 2 for i in step["blocks"]}
        outputs = [output(NAMES[i], token, more) for i, token, more in step["outputs"]]
        return ({0: SimpleNamespace(outputs=outputs)} if outputs else {}), bool(outputs)

    def preprocess_add_request(self, made: Any) -> tuple[Any, int]:
        return made, 0

    def add_request(self, made: Any, wave: int) -> None:
        self.calls.append(("add", made.request_id, made.sampling_params))
        self.scheduler.requests[made.request_id] = made
        self.scheduler.waiting.append(made)

    def abort_requests(self, names: list[str]) -> None:
        self.calls.append(("abort", list(names)))
        for name in names:
            self.scheduler.requests.pop(name, None)


class FakeRequest(SimpleNamespace):
    """A fake of vLLM's EngineCoreRequest."""

    __struct_fields__ = ("request_id", "prompt_token_ids", "sampling_params", "eos_token_id", "external_req_id")


class FakeParams(SimpleNamespace):
    """A fake of vLLM's SamplingParams."""

    def update_from_generation_config(self, fields: Any, eos: int) -> None:
        self.eos = eos

    def update_from_tokenizer(self, tokenizer: Any) -> None:
        self.bad_words_by = tokenizer


def fake_llm() -> SimpleNamespace:
    """Return a fake of vLLM's LLM, with the attributes that a session of the driver uses."""
    core = FakeCore()
    processor = SimpleNamespace(
        generation_config_fields={}, input_preprocessor=SimpleNamespace(get_eos_token_id=lambda: 0)
    )
    texts = SimpleNamespace(abort_requests=lambda request_ids, internal: None, add_request=lambda made, prompt: None)
    client = SimpleNamespace(engine_core=core, shutdown=lambda: core.calls.append("shutdown"))
    engine = SimpleNamespace(
        engine_core=client, input_processor=processor, output_processor=texts, vllm_config="this engine's"
    )
    return SimpleNamespace(llm_engine=engine)


def install(patch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replace the modules of vLLM by fakes, and return the fake LLM that the driver then uses."""
    vllm, engine, platforms = ModuleType("vllm"), ModuleType("vllm.v1.engine"), ModuleType("vllm.platforms")
    patch.setattr(vllm, "SamplingParams", FakeParams, raising=False)
    patch.setattr(engine, "EngineCoreRequest", FakeRequest, raising=False)
    patch.setattr(platforms, "current_platform", type("Platform", (), {"_config": "another's"})(), raising=False)
    for module in (vllm, ModuleType("vllm.v1"), engine, platforms):
        patch.setitem(sys.modules, module.__name__, module)
    llm = fake_llm()
    patch.setattr(started, "start", lambda plugin, setup: llm)
    return llm
