"""Tests of the properties of each backend, and of the built-in model on the backends that compile it."""

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import CheckpointError, resolve
from engine.backends import BACKENDS, label, sendnn
from engine.backends.errors import DeviceRefusedError, RecompileError
from engine.backends.inductor import cpp_compiler
from engine.config import ConfigError, EngineConfig, Limits, require_hardware
from engine.entrypoints.llm import LLM
from engine.model.loader import load_model
from engine.request import SamplingParams
from engine.scheduling.continuous import scheduler as continuous
from engine.scheduling.plan import Decode, Prefill
from tests.helpers.engine import is_one_sentence, random_tokens
from tests.helpers.paths import ROOT
from tests.helpers.runners import runner_of

START_SECONDS = 300


@pytest.fixture(scope="module")
def device() -> LLM:
    """Return the built-in model on the simulated card."""
    torch.set_num_threads(1)  # as for the other engines, since graphs depend on the number of threads
    return LLM("tiny-granite", backend="sendnn", max_model_len=512, max_num_seqs=4)


def generate(llm: LLM, *shapes: tuple[int, int]) -> list[tuple[int, ...]]:
    llm.reset(Limits())
    outputs = llm.generate(
        [{"prompt_token_ids": random_tokens(length, i)} for i, (length, _) in enumerate(shapes)],
        [SamplingParams(max_tokens=n, temperature=0, ignore_eos=True) for _, n in shapes],
        progress=False,
    )
    return [output.outputs[0].token_ids for output in outputs]


def compiled_for(llm: LLM) -> tuple[str, int, int]:
    """Return the backend, the number of graphs and the number of recompiles of an engine.

    Graphs that the engine shares with other engines are counted.
    """
    compilation = llm.engine.compilation
    assert compilation is not None
    return compilation[:3]


def in_a_process(code: str, **environ: str) -> str:
    """Run code in a new Python process, and return what the process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | environ,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_backend_says_its_dtype_and_its_options() -> None:
    shown = {name: (b.dtype, b.compiled, dict(b.options), b.attention[0]) for name, b in BACKENDS.items()}
    assert shown == {
        "eager": ("float32", False, {}, "paged"),
        "inductor": ("float32", True, {}, "paged"),
        "sendnn": ("float16", True, {"sendnn.dynamic": True}, "fms"),
    }
    assert len(BACKENDS["sendnn"].shape_rules) == 8


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"backend": "sendn"}, "backend 'sendn' is not known: choose from eager, inductor, sendnn"),
        ({"backend": "sendnn", "attention": "paged"}, "attention 'paged' does not run on backend sendnn: use fms"),
    ],
)
def test_what_cannot_work_is_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EngineConfig(**config)
    assert str(caught.value) == says
    assert is_one_sentence(says)


def test_a_simulated_card_is_named_and_is_no_hardware() -> None:
    assert [label(name) for name in BACKENDS] == ["eager", "inductor", "sendnn (simulated)"]
    require_hardware("eager")
    with pytest.raises(ConfigError, match=r"backend sendnn \(simulated\) is not hardware"):
        require_hardware("sendnn")


@pytest.mark.requirement("CB-DEVICE-02")
def test_whatever_comes_after_the_warm_up_runs_in_what_was_compiled_in_it(device: LLM) -> None:
    lone = generate(device, (20, 30))
    ragged = generate(device, (7, 30), (64, 3), (150, 11), (33, 1), (90, 24), (2, 17), (300, 100))
    assert [len(tokens) for tokens in [*lone, *ragged]] == [30, 30, 3, 11, 1, 24, 17, 100]
    assert compiled_for(device) == ("sendnn (simulated)", 2, 0)


def test_two_engines_in_a_process_give_the_same_tokens(device: LLM) -> None:
    other = LLM("tiny-granite", backend="sendnn", max_model_len=256, max_num_seqs=2)
    assert generate(other, (20, 10)) == generate(device, (20, 10))
    assert compiled_for(other) == compiled_for(device) == ("sendnn (simulated)", 2, 0)


@pytest.mark.requirement("CB-DEVICE-02")
def test_what_fits_no_graph_is_an_error_that_names_the_guard_and_is_counted() -> None:
    llm = LLM("tiny-granite", backend="sendnn", max_model_len=128, max_num_seqs=2)
    runner = runner_of(llm)
    runner._dtype = runner.cache[0][0].float().dtype  # makes masks float32 from now on
    with pytest.raises(RecompileError) as caught:
        runner.logits(Prefill("a", 60, 64, 4, (1,)), random_tokens(60, 0))
    shown = str(caught.value)
    assert shown.startswith("this prefill matches no graph that the warm-up compiled: tensor 'tensors['mask']'")
    assert "expected Half, actual Float" in shown
    assert compiled_for(llm) == ("sendnn (simulated)", 2, 1)


def test_an_engine_that_ignores_the_batch_tkv_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = LLM("tiny-granite", backend="sendnn", max_model_len=256, max_num_seqs=4, max_batch_tkv_limit=300)
    shapes = [(60, 40)] * 4
    assert [len(tokens) for tokens in generate(llm, *shapes)] == [40] * 4
    monkeypatch.setattr(continuous, "largest_batch_tkv", lambda *arguments: 0)
    message = "this decode has 4 sequences at tkv 76, but the device is compiled for a batch x tkv of at most 300"
    with pytest.raises(DeviceRefusedError, match=message):
        generate(llm, *shapes)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_checkpoint_that_is_cast_is_named(dtype: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    there = resolve("tiny-granite").path
    copy = tmp_path / "copy"
    shutil.copytree(there, copy)
    weights = {
        name: tensor.to(getattr(torch, dtype)) for name, tensor in load_file(there / "model.safetensors").items()
    }
    save_file(weights, copy / "model.safetensors")
    settings = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(settings | {"dtype": dtype, "torch_dtype": dtype}), encoding="utf-8")
    with caplog.at_level(logging.WARNING, logger="engine"):
        model = load_model(resolve(str(copy)), torch.float16, divided=False)
        load_model(resolve("tiny-granite"), torch.float16, divided=False)  # is in float16
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    logged = f"is in {dtype} and is cast to float16, the only dtype of the device"
    assert [message.partition(" is ")[2] for message in caplog.messages] == [logged.removeprefix("is ")]


def test_weights_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    built_in = resolve("tiny-granite")
    copy = Path(shutil.copytree(built_in.path, tmp_path / "copy"))
    (copy / "model.safetensors").write_bytes((built_in.path / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="the weights cannot be read: ") as caught:
        load_model(replace(built_in, path=copy), torch.float32, divided=False)
    assert str(caught.value).startswith(f"{copy}: ")


def test_a_context_of_one_block_has_no_decode_to_compile() -> None:
    llm = LLM("tiny-granite", backend="sendnn", max_model_len=64, max_num_seqs=1)
    assert compiled_for(llm) == ("sendnn (simulated)", 1, 0)


@pytest.mark.parametrize(
    ("context", "chunk_size", "graphs"),
    [(64, 64, 1), (64, 128, 1), (128, 64, 2), (256, 64, 2), (256, 192, 2), (192, 512, 2)],
)
def test_a_chunk_and_a_decode_are_compiled_for_every_length(context: int, chunk_size: int, graphs: int) -> None:
    """Run prompts just below and above the size of a block and of a chunk, and up to the length of the context.

    Every prompt runs twice, so that the second run has hits in the prefix cache. No graph may be compiled again.
    """
    llm = LLM(
        "tiny-granite",
        backend="sendnn",
        scheduler="chunked",
        chunk_size=chunk_size,
        enable_prefix_caching=True,
        max_model_len=context,
        max_num_seqs=2,
    )
    lengths = [n for n in (1, 63, 64, 65, 127, 128, 129, 200, context - 64, context - 1) if 0 < n < context - 1]
    budgets = [min(70, context - (-(-n // 64) * 64)) or 1 for n in lengths]
    shapes = [(n, budget) for n, budget in zip(lengths, budgets, strict=True) if -(-n // 64) * 64 + budget <= context]
    outputs = generate(llm, *shapes, *shapes[::-1]) if shapes else []
    assert [len(tokens) for tokens in outputs] == [budget for _, budget in [*shapes, *shapes[::-1]]]
    assert compiled_for(llm) == ("sendnn (simulated)", graphs, 0)


def test_variables_of_the_compiler_do_not_stay_in_the_environment(device: LLM) -> None:
    assert {sendnn.CONTEXT, sendnn.BATCH, sendnn.BATCH_TKV}.isdisjoint(os.environ)


def test_logits_of_the_device_are_near_those_of_float32(device: LLM, llm: LLM) -> None:
    plans: list[tuple[Prefill | Decode, tuple[int, ...]]] = [
        (Prefill("a", 100, 128, 28, (1, 2)), random_tokens(100, 0)),
        (Decode(("a", "a"), 128, (28, 28), ((1, 2, 3),) * 2), (5, 5)),
    ]
    for plan, tokens in plans:
        here, there = (runner_of(engine).logits(plan, tokens) for engine in (device, llm))
        assert here.dtype == there.dtype
        assert 0 < (here - there).abs().max() < 0.08


def test_a_compiled_engine_has_no_threads_that_a_fork_would_lose() -> None:
    code = """
import os, torch
torch.set_num_threads(1)
from engine.entrypoints.llm import LLM
from engine.model.loader import load_model
LLM("tiny-granite", backend="sendnn")
print(len(os.listdir("/proc/self/task")))
"""
    assert in_a_process(code) == "1\n"


FAKE_RUNTIME = """
import contextlib, torch
print("registered")

@torch._dynamo.register_backend(name="sendnn")
def compile_graph(graph, inputs, options=None):
    print("graph", options, MODE[-1])
    return graph.forward

MODE = ["outside"]

@contextlib.contextmanager
def warmup_mode():
    MODE.append("warming up")
    yield
    MODE.pop()
"""


def test_where_there_is_a_runtime_it_gets_the_graphs_of_each_engine(tmp_path: Path) -> None:
    (tmp_path / "torch_sendnn.py").write_text(FAKE_RUNTIME, encoding="utf-8")
    code = """
import torch
torch.set_num_threads(1)
from engine.entrypoints.llm import LLM
from engine.model.loader import load_model
for _ in range(2):
    print(LLM("tiny-granite", backend="sendnn").engine.compilation)
"""
    shown = in_a_process(code, PYTHONPATH=str(tmp_path)).splitlines()
    graph = "graph {'sendnn.dynamic': True} warming up"
    compiled = "Compilation(backend='sendnn', graphs=2, recompiles=0, shared=0)"
    assert shown == ["registered", *[graph, graph, compiled] * 2]  # limits are compiled in, so engines share no graphs


@pytest.mark.slow
@pytest.mark.skipif(cpp_compiler() is None, reason="inductor needs a C++ compiler")
def test_inductor_gives_the_tokens_of_eager_in_two_graphs(llm: LLM) -> None:
    compiled = LLM("tiny-granite", backend="inductor", max_model_len=512, max_num_seqs=4)
    shapes = [(7, 30), (64, 3), (150, 11), (33, 1), (20, 70)]
    assert generate(compiled, *shapes) == generate(llm, *shapes)
    assert compiled_for(compiled) == ("inductor", 2, 0)


@pytest.mark.slow
@pytest.mark.skipif(cpp_compiler() is None, reason="inductor needs a C++ compiler")
def test_inductor_gives_the_tokens_of_eager_in_chunks_too() -> None:
    options: dict[str, Any] = {
        "scheduler": "chunked",
        "chunk_size": 128,
        "enable_prefix_caching": True,
        "max_num_seqs": 4,
    }
    engines = [LLM("tiny-granite", backend=backend, max_model_len=512, **options) for backend in ("inductor", "eager")]
    shapes = [(7, 30), (64, 3), (300, 11), (33, 1), (20, 70), (300, 11)]
    compiled, eager = (generate(llm, *shapes) for llm in engines)
    assert compiled == eager
    assert compiled_for(engines[0]) == ("inductor", 2, 0)
