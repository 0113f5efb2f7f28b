"""The built-in model, loaded once a session, and its tokenizer."""

from collections.abc import Callable

import pytest
import torch

from checkpoints import resolve
from engine.config import Limits
from engine.llm import LLM
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
