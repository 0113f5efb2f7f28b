"""Tests that structured outputs in a batch equal those of a greedy loop of Hugging Face with the same masks."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from llguidance import LLMatcher, grammar_from
from llguidance.hf import from_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor

from checkpoints import resolve
from engine.build import build_engine
from engine.config import EngineConfig
from engine.entrypoints.llm import LLM
from engine.request import SamplingParams
from engine.structured_outputs import StructuredOutputsParams
from tests.helpers.engine import random_tokens

SCHEMA = json.dumps({"type": "array", "items": {"enum": ["left", 1, None]}, "minItems": 2, "maxItems": 3})
STRUCTURES: list[tuple[str, str] | None] = [
    ("json_schema", SCHEMA),
    None,
    ("regex", "[a-z]{4}-[0-9]{4}"),
    ("choice", '["yes", "no", "größer"]'),
    ("grammar", 'start: "(" start ")" | /[a-z]{3}/'),
    ("regex", "[0-9]{40}"),
]
LENGTHS = (20, 64, 65, 130, 5, 40)
MAX_TOKENS = 24


class Mask(LogitsProcessor):  # type: ignore[misc]
    """A logits processor for ``generate`` of transformers that masks the tokens that a structure does not allow.

    ``length`` is the number of tokens of the prompt, which the structure does not apply to.
    """

    def __init__(self, vocabulary: Any, structure: tuple[str, str], length: int) -> None:
        self._matcher = LLMatcher(vocabulary, grammar_from(*structure), log_level=0)
        self._length = length

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if input_ids.shape[1] > self._length:
            assert self._matcher.consume_token(int(input_ids[0, -1]))
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8) > 0
        return scores.masked_fill(~allowed[: scores.shape[1]], -torch.inf)


@pytest.fixture(scope="module")
def greedy() -> list[list[int]]:
    """Return the tokens of each request as ``generate`` of transformers computes them, one request at a time."""
    path = resolve("tiny-granite").path
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    vocabulary = from_tokenizer(AutoTokenizer.from_pretrained(path), eos_token=model.generation_config.eos_token_id)
    found = []
    for number, (length, structure) in enumerate(zip(LENGTHS, STRUCTURES, strict=True)):
        ids = torch.tensor([random_tokens(length, number)])
        masks = [] if structure is None else [Mask(vocabulary, structure, length)]
        out = model.generate(ids, do_sample=False, max_new_tokens=MAX_TOKENS, logits_processor=masks)
        found.append(out[0, length:].tolist())
    return found


@pytest.fixture(params=["continuous", "chunked", "token_budget"])
def llm(request: pytest.FixtureRequest) -> Iterator[LLM]:
    engine = build_engine(EngineConfig(max_model_len=256, max_num_seqs=3, num_blocks=8, scheduler=request.param))
    llm = LLM(engine)
    yield llm
    llm.close()


def _params(structure: tuple[str, str] | None) -> SamplingParams:
    wanted = None
    if structure is not None:
        kind, text = structure
        value: Any = json.loads(text) if kind == "choice" else text
        wanted = StructuredOutputsParams(**{"json" if kind == "json_schema" else kind: value})
    return SamplingParams(temperature=0, max_tokens=MAX_TOKENS, structured_outputs=wanted)


def test_tokens_are_those_of_a_greedy_loop_with_the_same_masks(llm: LLM, greedy: list[list[int]]) -> None:
    prompts = [{"prompt_token_ids": random_tokens(length, number)} for number, length in enumerate(LENGTHS)]
    outputs = llm.generate(prompts, list(map(_params, STRUCTURES)), progress=False)
    assert [list(output.outputs[0].token_ids) for output in outputs] == greedy
    assert len({len(tokens) for tokens in greedy}) > 2, "they end at different steps"
