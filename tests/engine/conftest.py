"""Fixtures for tests of the engine: the built-in model, which is loaded once in a session, and its tokenizer."""

from collections.abc import Callable
from importlib.util import find_spec

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
    """Return a function that returns the engine with an attention operation, and builds it at the first call for it."""
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
    """Return the engine with the default attention operation, without requests and with its original limits."""
    return built("paged")


@pytest.fixture(params=["numba", "torch"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test twice: with the loops that numba compiles, and with the torch code that is used without numba."""
    name: str = request.param
    if name == "torch":
        monkeypatch.setattr(kernels, "numba", None)
    elif find_spec("numba") is None:
        pytest.skip("numba is not made for this machine")
    torch.set_num_threads(1)
    return name
