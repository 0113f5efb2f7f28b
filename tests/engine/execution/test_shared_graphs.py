"""Tests of several engines in one process, which share the weights and the compiled graphs of a model.

Each engine keeps limits and block counts of its own.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from checkpoints import resolve
from engine.backends import BACKENDS
from engine.backends.compilation import Compilation
from engine.backends.errors import DeviceRefusedError, RecompileError
from engine.entrypoints.llm import LLM
from engine.execution.compiled import CompiledModel, compiling_for
from engine.execution.simulated import device
from engine.model.attention import attention_name, attention_tensors
from engine.model.inputs import prefill_inputs
from engine.model.loader import load_model
from engine.scheduling.plan import Decode, Prefill, PrefillChunk
from tests.helpers.engine import random_tokens
from tests.helpers.runners import compiled_of, runner_of

NAME = "sendnn (simulated)"
PREFILL = Prefill("a", 60, 64, 4, (1,))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # graphs depend on the number of threads


@pytest.fixture(scope="module")
def large() -> LLM:
    """Return the engine that is built first in this file, and whose graphs the other engines share."""
    return on_the_card(max_model_len=512, max_num_seqs=4)


def on_the_card(**config: Any) -> LLM:
    return LLM("tiny-granite", backend="sendnn", **config)


def in_chunks(chunk_size: int) -> LLM:
    return on_the_card(scheduler="chunked", chunk_size=chunk_size, max_model_len=512, max_num_seqs=2)


def traces() -> int:
    """Return the number of graphs that torch has traced in this process."""
    return counters["stats"]["unique_graphs"]


def decode(rows: int, blocks: int) -> Decode:
    """Return the plan of a decode of ``rows`` sequences, each of which fills ``blocks`` whole blocks."""
    tables = tuple(tuple(range(1 + row * blocks, 1 + (row + 1) * blocks)) for row in range(rows))
    return Decode(tuple("abcd"[:rows]), blocks * 64 - 1, (0,) * rows, tables)


def run_decode(llm: LLM, rows: int, blocks: int) -> torch.Tensor:
    return runner_of(llm).logits(decode(rows, blocks), (5,) * rows)


def test_engines_of_one_shape_trace_once(large: LLM) -> None:
    before = traces()
    other = on_the_card(max_model_len=512, max_num_seqs=4)
    assert traces() == before
    assert other.engine.compilation == Compilation(NAME, 2, 0, shared=2)
    own, first = runner_of(other), runner_of(large)
    assert own.model is first.model
    assert own.cache[0][0] is not first.cache[0][0]
    assert torch.equal(run_decode(other, 2, 2), run_decode(large, 2, 2))


def test_a_cache_of_another_size_needs_no_other_graphs(large: LLM) -> None:
    before = traces()
    assert on_the_card(max_model_len=1024, max_num_seqs=3).engine.compilation == Compilation(NAME, 2, 0, shared=2)
    assert traces() == before


@pytest.mark.requirement("CB-DEVICE-01")
def test_each_engine_is_held_to_its_own_limits_in_shared_graphs(large: LLM) -> None:
    """An engine with smaller limits refuses larger steps, although engines built before and after it run them."""
    small = on_the_card(max_model_len=128, max_num_seqs=2)
    narrow = on_the_card(max_model_len=512, max_num_seqs=4, max_batch_tkv_limit=512)
    wide = on_the_card(max_model_len=512, max_num_seqs=4)
    assert small.engine.compilation == narrow.engine.compilation == Compilation(NAME, 2, 0, shared=2)
    for llm in (large, wide):
        assert run_decode(llm, 4, 3).shape[0] == 4
    with pytest.raises(
        DeviceRefusedError, match=r"this decode has a tkv of 192, but the device is compiled for max_model_len 128"
    ):
        run_decode(small, 1, 3)
    with pytest.raises(DeviceRefusedError, match=r"this decode has 3 rows, but the device is compiled for at most 2"):
        run_decode(small, 3, 1)
    with pytest.raises(
        DeviceRefusedError, match=r"4 sequences at tkv 192, but the device is compiled for a batch x tkv of at most 512"
    ):
        run_decode(narrow, 4, 3)
    with pytest.raises(
        DeviceRefusedError, match=r"this prefill has 192 positions, but the device is compiled for max_model_len 128"
    ):
        runner_of(small).logits(Prefill("a", 192, 192, 0, (1, 2, 3)), random_tokens(192, 0))
    assert run_decode(large, 4, 3).shape[0] == 4


@pytest.mark.requirement("CB-DEVICE-02")
def test_a_recompile_is_an_error_of_the_engine_whose_step_it_is(large: LLM) -> None:
    other = on_the_card(max_model_len=256, max_num_seqs=2)
    runner = runner_of(other)
    runner._dtype = torch.float32  # makes masks float32 from now on
    before = traces()
    with pytest.raises(
        RecompileError, match=r"this prefill matches no graph that the warm-up compiled.* expected Half, actual Float"
    ):
        runner.logits(PREFILL, random_tokens(60, 0))
    assert traces() == before
    assert other.engine.compilation == Compilation(NAME, 2, 1, shared=2)
    assert large.engine.compilation is not None
    assert large.engine.compilation.recompiles == 0
    runner_of(large).logits(PREFILL, random_tokens(60, 0))


def test_an_engine_does_not_meet_a_graph_that_only_another_engine_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another engine compiles a graph of the same model for float32 masks.

    The first engine, which was compiled for float16 masks, must refuse such a step instead of running that graph.
    """
    ours = on_the_card(max_model_len=128, max_num_seqs=2)
    monkeypatch.setattr(device, "check_dtypes", lambda inputs: None)
    runner, compiled = runner_of(ours), compiled_of(ours)
    other = CompiledModel(runner.model, BACKENDS["sendnn"])
    others: dict[str, Any] = {"last_n_tokens": 64, "attn_name": attention_name("fms")}
    before = traces()
    with torch.inference_mode():
        inputs = prefill_inputs(PREFILL, random_tokens(60, 0), torch.float32)
        tensors = {"input_ids": inputs.input_ids, "position_ids": inputs.position_ids}
        tensors |= attention_tensors("fms", inputs)
        with compiling_for(128, 2, 256):
            other("prefill", runner.cache, tensors, others)
        other.seal()
        other("prefill", runner.cache, tensors, others)
        assert traces() == before + 1
        with pytest.raises(RecompileError, match=r"expected Half, actual Float"):
            compiled("prefill", runner.cache, tensors, others)
    assert (compiled.graphs, other.graphs, other.shared) == (2, 1, 0)


def test_another_chunk_size_needs_no_other_graphs_and_keeps_to_its_own() -> None:
    """Engines with chunks of 64 and of 128 tokens share graphs, but each refuses chunks of the other engine's size."""
    short = in_chunks(64)
    before = traces()
    long = in_chunks(128)
    assert traces() == before
    assert long.engine.compilation == Compilation(NAME, 2, 0, shared=2)
    for mine, other, size, wrong in ((short, long, 64, 128), (long, short, 128, 64)):
        chunk = PrefillChunk(
            "a", 0, size, 0, 0, (5,) * size, tuple(range(1, 1 + size // 64)), hit_blocks=0, is_last=True
        )
        assert runner_of(mine).logits(chunk, chunk.token_ids).shape[0] == 1
        message = r"this chunk matches no graph that the warm-up compiled: tensor 'tensors\['input_ids'\]' size "
        message += rf"mismatch at index 1\. expected {wrong}, actual {size}"
        with pytest.raises(RecompileError, match=message):
            runner_of(other).logits(chunk, chunk.token_ids)
        assert other.engine.compilation is not None
        assert other.engine.compilation.recompiles == 1


def test_a_decode_is_the_same_graph_whatever_the_scheduler(large: LLM) -> None:
    short = in_chunks(64)
    known = [compiled_of(llm)._functions["decode"] for llm in (large, short)]
    assert known[0] is known[1]


def test_weights_are_loaded_once_and_again_where_they_were_changed(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(resolve("tiny-granite").path, folder)
    checkpoint = resolve(str(folder))

    def load(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
        model: torch.nn.Module = load_model(checkpoint, dtype, divided=False)
        return model

    first = load()
    assert load() is first
    assert load(torch.float16) is not first
    with torch.no_grad():
        next(first.parameters()).add_(1)
    second = load()
    assert second is not first
    (folder / "config.json").touch()
    assert load() is not second


def test_faster_layers_of_one_engine_do_not_change_those_of_others(llm: LLM, built: Callable[[str], LLM]) -> None:
    paged, shipped = runner_of(llm).model, runner_of(built("fms")).model
    quick = [module for module in paged.modules() if "forward" in vars(module)]
    assert quick
    assert not [module for module in shipped.modules() if "forward" in vars(module)]
    pairs = zip(paged.parameters(), shipped.parameters(), strict=True)
    assert all(mine.data_ptr() == other.data_ptr() for mine, other in pairs)
