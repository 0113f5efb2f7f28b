"""The built-in model, loaded once a session, and its tokenizer."""

from collections.abc import Callable

import pytest
import torch

from checkpoints import resolve
from engine.config import Limits
from engine.entrypoints.llm import LLM
from engine.optimized import kernels
from engine.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer(resolve("tiny-granite"))


@pytest.fixture(scope="session")
def built() -> Callable[[str], LLM]:
    """The engine with an attention operation, built at its first use."""
    engines: dict[str, LLM] = {}

    def get(attention: str) -> LLM:
        torch.set_num_threads(1)
        if attention not in engines:
            engines[attention] = LLM("tiny-granite", attention=attention, max_model_len=512, max_num_seqs=4)
        engines[attention].reset(Limits())
        return engines[attention]

    return get


@pytest.fixture
def llm(built: Callable[[str], LLM]) -> LLM:
    """The engine as it comes, with nothing in it and its limits as built."""
    return built("paged")


@pytest.fixture(params=["numba", "torch"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a decode is computed with: our own loops, and what takes their place where there is no numba."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "numba", None)
    elif kernels.numba is None:
        pytest.skip("numba is not made for this machine")
    torch.set_num_threads(1)
    return request.param
