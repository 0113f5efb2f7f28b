"""Tests of the numba loops in a whole model, and of machines where they cannot be compiled or cached."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from numpy.typing import NDArray

from engine.entrypoints.llm import LLM
from engine.entrypoints.prompts import Prompt
from engine.optimized import kernels
from engine.request import SamplingParams
from tests.helpers.engine import with_logprobs

PROMPTS: list[Prompt] = [
    {"prompt_token_ids": tuple(range(first, first + length))}
    for first, length in ((5, 3), (90, 64), (300, 130), (7, 1))
]
PARAMS = SamplingParams(max_tokens=70, temperature=0, ignore_eos=True, logprobs=2)


def test_a_model_says_the_same_without_them(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    with_loops = llm.generate(PROMPTS, PARAMS, progress=False)
    monkeypatch.setattr(kernels, "numba", None)
    without = llm.generate(PROMPTS, PARAMS, progress=False)
    for own, other in zip(with_loops, without, strict=True):
        assert own.outputs[0].token_ids == other.outputs[0].token_ids
        pairs = zip(with_logprobs(own.outputs[0]), with_logprobs(other.outputs[0]), strict=True)
        for (_, tops), (_, others) in pairs:
            assert tops.keys() == others.keys()
            for token_id, logprob in tops.items():
                assert logprob.logprob == pytest.approx(others[token_id].logprob, abs=1e-4)


@pytest.mark.parametrize("loops", ["numba"], indirect=True)
def test_a_model_uses_them(llm: LLM, loops: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called = set()
    for name in ("multiply", "score", "weigh"):
        loop = getattr(kernels, name)

        def counted(*arguments: Any, name: str = name, loop: Callable[..., None] = loop) -> None:
            called.add(name)
            loop(*arguments)

        monkeypatch.setattr(kernels, name, counted)
    llm.generate(PROMPTS[:1], SamplingParams(max_tokens=2, temperature=0), progress=False)
    assert called == {"multiply", "score", "weigh"}


def test_without_numba_the_engine_is_there() -> None:
    code = "import sys; sys.modules['numba'] = None; import torch, engine.execution.runner\n"
    code += "from engine.optimized import kernels\n"
    code += "print(kernels.usable(torch.ones(2, 2)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


@pytest.mark.parametrize("loops", ["numba"], indirect=True)
def test_where_nothing_can_be_written_they_are_compiled_for_this_process_alone(
    loops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    numba = pytest.importorskip("numba")
    njit = numba.njit

    def nowhere(*arguments: Any, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*arguments, **options)

    monkeypatch.setattr(numba, "njit", nowhere)

    @kernels._compiled("float32[::1]")
    def double(x: NDArray[numpy.float32]) -> None:
        for place in range(x.size):
            x[place] *= 2

    x = numpy.ones(3, numpy.float32)
    double(x)
    assert x.tolist() == [2, 2, 2]


@pytest.mark.parametrize("loops", ["numba"], indirect=True)
@pytest.mark.parametrize("wrong", [torch.float16, torch.float64])
def test_other_numbers_are_left_to_torch(loops: str, wrong: torch.dtype) -> None:
    assert kernels.usable(torch.ones(2, 2))
    assert not kernels.usable(torch.ones(2, 2, dtype=wrong))
    assert not kernels.usable(torch.ones(2, 3).t())
