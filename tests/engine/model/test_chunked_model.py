"""Tests of the chunked scheduler with the built-in model.

The tokens are those of Hugging Face, and no block in the prefix cache is overwritten.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import resolve
from engine.config import EngineConfig, Limits
from engine.core import EngineCore
from engine.execution.runner import ModelRunner
from engine.request import Request, SamplingParams
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from harness.references.compute import continuations
from harness.references.values import Wanted
from tests.helpers.budget import examples
from tests.helpers.chunked_recordings import RECORDINGS, row
from tests.helpers.engine import random_tokens

BLOCKS = 64


@pytest.fixture(scope="session")
def runner() -> ModelRunner:
    torch.set_num_threads(1)
    return ModelRunner(EngineConfig(num_blocks=BLOCKS), resolve("tiny-granite"))


@pytest.fixture(scope="session")
def shipped() -> ModelRunner:
    torch.set_num_threads(1)
    return ModelRunner(EngineConfig(num_blocks=BLOCKS, attention="fms"), resolve("tiny-granite"))


class Workload:
    """Requests whose prompts have common prefixes, as in the recordings, and the outputs that Hugging Face computes."""

    def __init__(self, requests: Sequence[dict[str, Any]]) -> None:
        self.requests = requests
        self.texts: list[tuple[int, ...]] = []
        for number, request in enumerate(requests):
            other, shared = request.get("shares", (0, 0))
            begin = self.text(other)[:shared] if shared else ()
            self.texts.append(begin + random_tokens(request["prompt"], number)[len(begin) :])
        wanted = [Wanted(text, request["max_tokens"]) for text, request in zip(self.texts, requests, strict=True)]
        found = continuations(resolve("tiny-granite"), wanted)
        self.outputs = [tuple(token.token_id for token in reference.tokens) for reference in found]

    def text(self, number: int) -> tuple[int, ...]:
        """Return prompt and output tokens of request ``number``, whose prompt must be in ``texts`` already."""
        prompt = self.texts[number]
        (reference,) = continuations(resolve("tiny-granite"), [Wanted(prompt, self.requests[number]["max_tokens"])])
        return prompt + tuple(token.token_id for token in reference.tokens)


class Watched:
    """Run an engine core with a model step by step, and check that no step changes a block in the prefix cache."""

    def __init__(self, config: EngineConfig, limits: Limits, runner: ModelRunner, workload: Workload) -> None:
        self.core = EngineCore(config, runner)
        self.core.reset(limits)
        self.runner, self.workload, self.step = runner, workload, 0
        self.join()
        self.rows = [row(self.core, 0, (), ())]

    def join(self) -> None:
        for number, (request, text) in enumerate(zip(self.workload.requests, self.workload.texts, strict=True)):
            if request["join_step"] == self.step:
                params = SamplingParams(temperature=0, max_tokens=request["max_tokens"], ignore_eos=True)
                self.core.add_request(Request(str(number), text, params))

    def go(self) -> None:
        scheduler = self.core.scheduler
        assert isinstance(scheduler, ChunkedScheduler)
        contents = dict(scheduler.pool._key_of)
        before = [tensor[list(contents)].clone() for layer in self.runner.cache for tensor in layer]
        record = self.core.step()
        self.step += 1
        self.join()
        self.rows.append(row(self.core, self.step, record.request_outputs, record.finished_requests))
        kept = [i for i, (block, key) in enumerate(contents.items()) if scheduler.pool._key_of.get(block) == key]
        after = [tensor[list(contents)] for layer in self.runner.cache for tensor in layer]
        for old, new in zip(before, after, strict=True):
            assert torch.equal(old[kept], new[kept]), f"step {self.step} wrote to a block that can be found"
        scheduler.pool.check_integrity()

    def run(self) -> None:
        last = max(request["join_step"] for request in self.workload.requests)
        while self.step < last or self.core.has_work:
            self.go()

    @property
    def outputs(self) -> list[tuple[int, ...]]:
        return [self.core.sequences[str(number)].output_token_ids for number in range(len(self.workload.requests))]


def watched(recording: dict[str, Any], runner: ModelRunner) -> Watched:
    limits = recording["limits"]
    config = EngineConfig(
        scheduler="chunked",
        max_model_len=-(-limits["max_model_len"] // 64) * 64,
        max_num_seqs=limits["max_num_seqs"],
        num_blocks=BLOCKS,
        max_batch_tkv_limit=limits["max_batch_tkv_limit"],
        **recording["chunking"],
    )
    most = Limits(**limits | {"available_blocks": min(limits["available_blocks"], config.available_blocks)})
    return Watched(config, most, runner, Workload(recording["requests"]))


def named(*names: str) -> list[Any]:
    return [pytest.param(r, id=r["name"]) for r in RECORDINGS if r["name"] in names]


SHARING = named(
    "test_prefix_hit_decoded_block_within_batch",
    "test_limit_blocks_no_prefix_hit",
    "test_double_prefix_hit_within_batch",
    "test_multi_chunk_full_match",
    "test_multi_chunk_partial_match_misaligned",
    "test_max_batch_tkv_decode_pausing",
    "random_33",
    "random_39",
)


@pytest.mark.parametrize("recording", SHARING)
def test_recorded_workloads_give_the_tokens_of_hugging_face(recording: dict[str, Any], runner: ModelRunner) -> None:
    run = watched(recording, runner)
    run.run()
    assert run.rows == recording["steps"]
    assert run.outputs == run.workload.outputs


@pytest.mark.parametrize(
    "recording", named("test_multi_chunk_partial_match_misaligned", "test_prefill_exceeds_max_batch_tkv")
)
def test_so_does_the_operation_that_ibm_fms_ships(recording: dict[str, Any], shipped: ModelRunner) -> None:
    run = watched(recording, shipped)
    run.run()
    assert run.rows == recording["steps"]
    assert run.outputs == run.workload.outputs


@st.composite
def sharing_requests(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Generate two to four requests, most of which begin with tokens of an earlier request.

    The common tokens can end within the prompt or within the output of the earlier request.
    """
    requests: list[dict[str, Any]] = []
    step = 0
    for number in range(draw(st.integers(2, 4))):
        prompt, budget = draw(st.integers(1, 260)), draw(st.integers(1, 40))
        request: dict[str, Any] = {"prompt": prompt, "max_tokens": budget, "join_step": step}
        if number and draw(st.integers(0, 3)):
            other = draw(st.integers(0, number - 1))
            most = min(prompt, requests[other]["prompt"] + requests[other]["max_tokens"])
            request["shares"] = [other, draw(st.integers(0, most))]
        requests.append(request)
        step += draw(st.integers(0, 12))
    return requests


@settings(max_examples=examples(5, 200), deadline=None)
@given(
    requests=sharing_requests(),
    chunk=st.sampled_from([64, 128, 192]),
    interleave=st.booleans(),
    blocks=st.integers(6, 20),
    batch_tkv=st.sampled_from([320, 480, 2048]),
)
def test_any_workload_gives_the_tokens_of_hugging_face(
    runner: ModelRunner, requests: list[dict[str, Any]], chunk: int, interleave: bool, blocks: int, batch_tkv: int
) -> None:
    chunking = {"chunk_size": chunk, "interleave": interleave, "enable_prefix_caching": True}
    limits = {"max_model_len": 384, "max_num_seqs": 3, "available_blocks": blocks, "max_batch_tkv_limit": batch_tkv}
    run = watched({"chunking": chunking, "limits": limits, "requests": requests}, runner)
    run.run()
    assert run.outputs == run.workload.outputs


def test_an_aborted_prefill_leaves_no_prefix_that_was_not_computed(runner: ModelRunner) -> None:
    """Abort a request after a step that counts a block as computed although only the next step would write it.

    This happens if the hit in the prefix cache ends in the middle of a chunk. Other requests must not find that block.
    """
    shared = {"prompt": 384, "max_tokens": 2, "join_step": 0}
    requests = [shared, shared | {"shares": [0, 192]}, shared | {"shares": [1, 384], "join_step": 9}]
    chunking = {"chunk_size": 128, "interleave": False}
    limits = {"max_model_len": 512, "max_num_seqs": 2, "available_blocks": 32, "max_batch_tkv_limit": 2048}
    run = watched({"chunking": chunking, "limits": limits, "requests": requests}, runner)
    for _ in range(4):
        run.go()
    assert run.core.abort("1")
    run.run()
    assert run.outputs[2] == run.workload.outputs[2]
