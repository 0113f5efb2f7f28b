"""Tests of tensor parallelism: the same tokens as with one process, and no process is left running."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.config import ConfigError, EngineConfig
from engine.entrypoints.async_llm import AsyncLLM
from engine.entrypoints.engine_thread import EngineDeadError
from engine.entrypoints.llm import LLM
from engine.request import RequestOutput, RequestOutputKind, SamplingParams
from engine.scheduling.plan import Decode
from engine.tensor_parallel.division import check_division
from engine.tensor_parallel.workers import WorkerDiedError, Workers
from tests.helpers.engine import is_one_sentence, random_tokens
from tests.helpers.narrow import present
from tests.helpers.paths import ROOT

RAGGED = [(7, 30), (64, 3), (150, 11), (33, 1), (90, 24), (2, 17), (128, 70)]
START_SECONDS = 60
END_SECONDS = 5


@pytest.fixture(scope="module")
def pair() -> Iterator[LLM]:
    """Return an LLM with the built-in model on two processes."""
    llm = LLM("tiny-granite", tensor_parallel_size=2, max_model_len=512, max_num_seqs=4)
    yield llm
    llm.close()


def generate(llm: LLM, shapes: list[tuple[int, int]] = RAGGED, **params: Any) -> list[RequestOutput]:
    return llm.generate(
        [{"prompt_token_ids": random_tokens(length, i)} for i, (length, _) in enumerate(shapes)],
        [SamplingParams(max_tokens=n, **{"temperature": 0, "ignore_eos": True, **params}) for _, n in shapes],
        progress=False,
    )


def tokens(outputs: list[RequestOutput]) -> list[tuple[int, ...]]:
    return [output.outputs[0].token_ids for output in outputs]


def running(process_id: int) -> bool:
    """Return whether a process is running. A zombie process is not."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def soon(holds: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + END_SECONDS
    while not holds():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def test_two_processes_say_what_one_says(llm: LLM, pair: LLM) -> None:
    one, two = generate(llm, logprobs=2), generate(pair, logprobs=2)
    assert tokens(two) == tokens(one)
    for left, right in zip(one, two, strict=True):
        assert right.outputs[0].cumulative_logprob == pytest.approx(left.outputs[0].cumulative_logprob, abs=1e-4)


def test_they_sample_alike(llm: LLM, pair: LLM) -> None:
    drawn: dict[str, Any] = {"temperature": 1.0, "top_p": 0.9, "seed": 11}
    assert tokens(generate(pair, **drawn)) == tokens(generate(llm, **drawn))


def test_without_a_seed_they_sample_with_the_seed_of_the_engine() -> None:
    shapes = [(20, 12), (40, 12)]
    alone = tokens(generate(LLM("tiny-granite", seed=5), shapes, temperature=1.0))
    assert alone != tokens(generate(LLM("tiny-granite", seed=0), shapes, temperature=1.0))
    divided = LLM("tiny-granite", tensor_parallel_size=2, seed=5)
    try:
        assert tokens(generate(divided, shapes, temperature=1.0)) == alone
    finally:
        divided.close()


def test_an_engine_thread_drives_them_and_its_end_leaves_them_to_their_owner(llm: LLM, pair: LLM) -> None:
    async def stream(front: AsyncLLM, name: str) -> tuple[int, ...]:
        params = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY)
        (output,) = [o async for o in front.generate({"prompt_token_ids": random_tokens(40, 0)}, params, name)]
        return output.outputs[0].token_ids

    async def both() -> list[tuple[int, ...]]:
        front = AsyncLLM(pair.engine)
        try:
            return [*await asyncio.gather(stream(front, "a"), stream(front, "b"))]
        finally:
            front.shutdown()

    (alone,) = tokens(generate(llm, [(40, 12)]))
    assert asyncio.run(both()) == [alone, alone]
    assert tokens(generate(pair, [(40, 12)])) == [alone]


def test_one_of_two_engines_loses_a_worker(llm: LLM, pair: LLM) -> None:
    """Kill a worker of one of two engines. This engine must fail immediately and permanently; the other continues."""
    front = AsyncLLM("tiny-granite", tensor_parallel_size=2, max_model_len=512, max_num_seqs=4)
    workers = present(front.engine.workers)
    ids = workers.process_ids
    expected = tokens(generate(llm))

    async def test() -> None:
        params = SamplingParams(max_tokens=400, temperature=0, ignore_eos=True, output_kind=RequestOutputKind.DELTA)
        outputs = front.generate({"prompt_token_ids": random_tokens(20, 0)}, params, "long")
        await anext(outputs)
        assert tokens(await asyncio.to_thread(generate, pair)) == expected
        began = time.monotonic()
        os.kill(ids[1], signal.SIGKILL)
        with pytest.raises(EngineDeadError, match="worker 1 of 2 was ended by SIGKILL"):
            async for _ in outputs:
                pass
        assert time.monotonic() - began < END_SECONDS

    try:
        asyncio.run(test())
        assert soon(lambda: not any(map(running, ids)))
        with pytest.raises(WorkerDiedError, match="worker 1 of 2 was ended by SIGKILL"):
            workers.logits(Decode(("a",), 0, (0,), ((1,),)), (5,))
        assert tokens(generate(pair)) == expected
    finally:
        front.shutdown()


ENGINE_THAT_WAITS = """
import sys, time
from engine.tensor_parallel.workers import Workers
from engine.config import EngineConfig
workers = Workers(EngineConfig(tensor_parallel_size=2))
if sys.argv[1] == "ready":
    workers.ready()
print(*workers.process_ids, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("when", ["starting", "ready"])
def test_workers_of_a_process_that_was_killed_end_too(when: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ENGINE_THAT_WAITS, when], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        ids = [int(word) for word in present(parent.stdout).readline().split()]
        assert len(ids) == 2
        assert all(map(running, ids))
    finally:
        parent.kill()
        parent.wait(END_SECONDS)
        present(parent.stdout).close()
    assert soon(lambda: not any(map(running, ids)))


def test_what_a_worker_raises_comes_with_its_traceback_and_ends_the_engine() -> None:
    workers = Workers(EngineConfig(tensor_parallel_size=2))
    ids = workers.process_ids
    workers.ready()
    with pytest.raises(WorkerDiedError) as died:
        workers.logits(Decode(("a", "b"), 64, (0, 0), ((1, 2), (3, 10**6))), (5, 5))
    assert "of 2 failed: IndexError" in str(died.value)
    assert is_one_sentence(str(died.value).partition(": ")[0])
    assert "in _blank" in died.value.__notes__[0]
    assert soon(lambda: not any(map(running, ids)))


def test_an_engine_that_cannot_start_says_why_and_leaves_nothing() -> None:
    workers = Workers(EngineConfig(model="no-such-model-here", tensor_parallel_size=2))
    ids = workers.process_ids
    with pytest.raises(WorkerDiedError, match=r"of 2 failed: .*no-such-model-here"):
        workers.ready()
    assert soon(lambda: not any(map(running, ids)))


def test_close_ends_every_worker_and_what_comes_after_is_refused() -> None:
    workers = Workers(EngineConfig(tensor_parallel_size=2))
    workers.close()
    workers.close()
    assert not any(map(running, workers.process_ids))
    with pytest.raises(WorkerDiedError, match="the engine was closed"):
        workers.logits(Decode(("a",), 0, (0,), ((1,),)), (5,))


def test_a_worker_that_ends_without_a_step_under_way_is_noticed() -> None:
    workers = Workers(EngineConfig(tensor_parallel_size=2))
    workers.check()
    os.kill(workers.process_ids[0], signal.SIGKILL)
    assert soon(lambda: not running(workers.process_ids[0]))
    with pytest.raises(WorkerDiedError, match="worker 0 of 2 was ended by SIGKILL"):
        workers.check()
    assert not any(map(running, workers.process_ids))


def test_an_engine_without_references_leaves_nothing() -> None:
    ids = Workers(EngineConfig(tensor_parallel_size=2)).process_ids
    assert not any(map(running, ids))


SHAPE = {"num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 768, "hidden_size": 256}


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_sizes_that_divide_the_heads_or_share_them_are_fine(size: int) -> None:
    check_division(size, SHAPE)


@pytest.mark.parametrize(
    ("size", "change", "named"),
    [
        (3, {}, "num_attention_heads of 8"),
        (16, {}, "num_attention_heads of 8"),
        (8, {"intermediate_size": 100}, "intermediate_size of 100"),
        (6, {"num_attention_heads": 12, "hidden_size": 192}, "num_key_value_heads of 4"),
    ],
)
def test_sizes_that_ibm_fms_cannot_divide_by_are_refused_in_one_sentence(
    size: int, change: dict[str, int], named: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        check_division(size, SHAPE | change)
    assert named in str(refusal.value)
    assert is_one_sentence(str(refusal.value))


def test_an_engine_is_refused_before_any_process_is_started() -> None:
    with pytest.raises(
        ConfigError, match="tensor_parallel_size 3 does not divide the model's num_attention_heads of 4"
    ):
        LLM("tiny-granite", tensor_parallel_size=3)
