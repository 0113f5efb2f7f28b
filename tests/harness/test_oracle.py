"""The reference against Hugging Face's own ``generate``, on the built-in model."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from checkpoints import Checkpoint, resolve
from harness import oracle
from harness.checks.output import expected_reference
from harness.drivers.base import RequestSpec
from harness.oracle import Reference, reference
from harness.prompts import prompt_token_ids, vocabulary_of
from harness.schema import Prompt

PROMPTS = [Prompt(text="Return the number of"), Prompt(random_tokens=1), Prompt(random_tokens=90)]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return resolve("tiny-granite")


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint) -> Any:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32).eval()


def generated(model: Any, prompt: tuple[int, ...], count: int, **more: Any) -> tuple[tuple[int, ...], torch.Tensor]:
    """The new tokens of a greedy ``generate``, and the raw logprobs of every token at each of them."""
    config = GenerationConfig(
        **{"max_new_tokens": count, "do_sample": False, "eos_token_id": None, "pad_token_id": 1} | more,
        output_logits=True,
        return_dict_in_generate=True,
    )
    model.generation_config = GenerationConfig()
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return tuple(out.sequences[0, len(prompt) :].tolist()), torch.cat(out.logits).log_softmax(-1)


def prompt_of(checkpoint: Checkpoint, prompt: Prompt) -> tuple[int, ...]:
    return prompt_token_ids(prompt, "the-oracle", 0, vocabulary_of(checkpoint))


@pytest.mark.parametrize("prompt", PROMPTS, ids=["text", "one token", "90 tokens"])
def test_it_equals_a_greedy_generate(checkpoint: Checkpoint, model: Any, prompt: Prompt) -> None:
    ids = prompt_of(checkpoint, prompt)
    right, logprobs = generated(model, ids, 20)
    found = reference(checkpoint, ids, 20)
    assert found.token_ids == right
    assert found.logprobs == pytest.approx([row[i].item() for row, i in zip(logprobs, right, strict=True)], abs=1e-4)
    best = logprobs.topk(2, dim=-1).values
    assert found.margins == pytest.approx((best[:, 0] - best[:, 1]).tolist(), abs=1e-4)
    assert min(found.margins) >= 0


def test_it_goes_on_past_the_end_of_the_text(checkpoint: Checkpoint) -> None:
    eos = next(iter(vocabulary_of(checkpoint).eos_token_ids))
    ended = prompt_of(checkpoint, PROMPTS[0])
    found = reference(checkpoint, ended, 120).token_ids
    assert len(found) == 120
    assert eos in found[:-1]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths that were computed anew; nothing is known from before."""
    lengths: list[int] = []
    compute = oracle._compute

    def counted(checkpoint: Checkpoint, prompt: tuple[int, ...], max_tokens: int, *more: Any) -> Reference:
        lengths.append(max_tokens)
        return compute(checkpoint, prompt, max_tokens, *more)

    monkeypatch.setattr(oracle, "_compute", counted)
    monkeypatch.setattr(oracle, "_computed", {})
    return lengths


def test_fewer_tokens_of_a_known_prompt_are_a_prefix_and_not_computed_again(
    checkpoint: Checkpoint, computed: list[int]
) -> None:
    long = reference(checkpoint, (50, 60, 70), 8)
    short = reference(checkpoint, (50, 60, 70), 5)
    assert short == Reference(long.token_ids[:5], long.logprobs[:5], long.margins[:5])
    assert len(short.token_ids) == 5
    assert computed == [8]


def test_more_tokens_of_a_known_prompt_begin_with_the_known_ones(checkpoint: Checkpoint, computed: list[int]) -> None:
    short = reference(checkpoint, (50, 60, 70), 3)
    long = reference(checkpoint, (50, 60, 70), 8)
    assert long.token_ids[:3] == short.token_ids
    assert computed == [3, 8]


def test_another_prompt_and_other_forbidden_tokens_are_not_mistaken_for_known_ones(
    checkpoint: Checkpoint, computed: list[int]
) -> None:
    free = reference(checkpoint, (50, 60, 70), 4)
    other = reference(checkpoint, (50, 60, 71), 4)
    forbidden = reference(checkpoint, (50, 60, 70), 4, (free.token_ids[0],), 1)
    longer = reference(checkpoint, (50, 60, 70), 4, (free.token_ids[0],), 4)
    assert computed == [4, 4, 4, 4]
    assert other.logprobs != free.logprobs
    assert forbidden.token_ids[0] != free.token_ids[0]
    assert free.token_ids[0] not in longer.token_ids


def test_tokens_that_are_forbidden_for_no_token_share_what_is_known(
    checkpoint: Checkpoint, computed: list[int]
) -> None:
    assert reference(checkpoint, (50, 60, 70), 4, (17,), 0) == reference(checkpoint, (50, 60, 70), 4)
    assert computed == [4]


def test_logprobs_are_of_the_raw_logits_where_a_token_is_forbidden(checkpoint: Checkpoint) -> None:
    free = reference(checkpoint, (50, 60, 70), 1)
    second = reference(checkpoint, (50, 60, 70), 1, free.token_ids, 1)
    assert second.token_ids != free.token_ids
    assert second.logprobs[0] == pytest.approx(free.logprobs[0] - free.margins[0], abs=1e-5)


def test_forbidden_tokens_may_come_as_soon_as_min_tokens_are_there(checkpoint: Checkpoint) -> None:
    free = reference(checkpoint, (50, 60, 70), 6)
    stop = free.token_ids[0]
    found = reference(checkpoint, (50, 60, 70), 6, (stop,), 2)
    assert stop not in found.token_ids[:2]
    # From there on it is free again: the same as going on from those two without anything forbidden.
    assert reference(checkpoint, (50, 60, 70, *found.token_ids[:2]), 4).token_ids == found.token_ids[2:]


@pytest.mark.parametrize("forbidden", [(), (999_999,), (2048,)], ids=["none", "far beyond", "just beyond"])
def test_forbidding_what_the_vocabulary_does_not_have_changes_nothing(
    checkpoint: Checkpoint, forbidden: tuple[int, ...]
) -> None:
    free = reference(checkpoint, (50, 60, 70), 4)
    assert reference(checkpoint, (50, 60, 70), 4, forbidden, 2) == free


@pytest.mark.parametrize("min_tokens", [0, 3, 10])
def test_with_stop_tokens_and_min_tokens_it_ends_where_generate_does(
    checkpoint: Checkpoint, model: Any, min_tokens: int
) -> None:
    ids = prompt_of(checkpoint, PROMPTS[0])
    free = reference(checkpoint, ids, 12).token_ids
    stop = free[1]
    right, _ = generated(model, ids, 12, eos_token_id=[stop], min_new_tokens=min_tokens or None)
    request = RequestSpec(0, ids, 12, min_tokens=min_tokens, stop_token_ids=(stop,))
    assert expected_reference(request, checkpoint, vocabulary_of(checkpoint)).token_ids == right
    assert min_tokens or len(right) == 2
    assert len(right) >= min_tokens
