"""Tests of the logits processors: exact values, vLLM's order of processors, and rows with different parameters."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from engine.model.logits import completing, processed
from engine.request import Request, SamplingParams, SamplingParamsError, TokenOutput
from engine.sequence import SequenceState

LOGITS = torch.tensor([2.0, -1.0, 0.5, 1.0, -3.0, 0.0])
NEVER = -torch.inf


def sequence(prompt: Sequence[int] = (5,), generated: Sequence[int] = (), **params: Any) -> SequenceState:
    request = Request("a", tuple(prompt), SamplingParams(temperature=0, max_tokens=50, **params))
    state = SequenceState(request, frozenset(), None, max_model_len=512)
    for token_id in generated:
        state.append(TokenOutput(token_id))
    return state


def row(state: SequenceState) -> list[float]:
    return processed(LOGITS[None].clone(), [state])[0].tolist()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"presence_penalty": 0.5}, [1.5, -1.5, 0.5, 1, -3, 0]),
        ({"frequency_penalty": 0.5}, [1.0, -1.5, 0.5, 1, -3, 0]),
        ({"frequency_penalty": 0.5, "presence_penalty": 1.0}, [0.0, -2.5, 0.5, 1, -3, 0]),
        ({"presence_penalty": -2.0}, [4.0, 1.0, 0.5, 1, -3, 0]),
        ({"repetition_penalty": 2.0}, [1.0, -2.0, 0.5, 0.5, -3, 0]),
        ({"repetition_penalty": 0.5}, [4.0, -0.5, 0.5, 2.0, -3, 0]),
        ({"logit_bias": {2: 3.0, 4: -100.0}}, [2, -1, 3.5, 1, -103, 0]),
        ({"logit_bias": {2: 1000.0, 4: -1000.0}}, [2, -1, 100.5, 1, -103, 0]),
        ({"allowed_token_ids": (1, 4)}, [NEVER, -1, NEVER, NEVER, -3, NEVER]),
        ({"bad_words_token_ids": ((2,), (1, 0), (0, 3))}, [2, -1, NEVER, NEVER, -3, 0]),
        # The bias comes after masks, and the repetition penalty after the bias.
        ({"allowed_token_ids": (1,), "logit_bias": {0: 100.0, 1: 2.0}, "repetition_penalty": 2.0},
         [NEVER, 0.5, NEVER, NEVER, NEVER, NEVER]),
    ],
)  # fmt: skip
def test_values(params: dict[str, Any], expected: list[float]) -> None:
    assert row(sequence([3], [0, 1, 0], **params)) == pytest.approx(expected)


def test_repetition_is_that_of_hugging_face() -> None:
    torch.manual_seed(1)
    logits, ids = torch.randn(1, 40), [3, 3, 7, 39, 0]
    ours = processed(logits, [sequence(ids[:3], ids[3:], repetition_penalty=1.7)])
    assert torch.equal(ours, RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([ids]), logits))


def test_rows_are_changed_by_their_own_requests_only() -> None:
    logits = LOGITS.repeat(3, 1)
    rows = [sequence(), sequence(logit_bias={0: 5.0}), sequence(presence_penalty=1.0, generated=[2])]
    changed = processed(logits, rows)
    assert changed[0].tolist() == LOGITS.tolist()
    assert changed[1].tolist() == [7, -1, 0.5, 1, -3, 0]
    assert changed[2].tolist() == [2, -1, -0.5, 1, -3, 0]
    assert logits.tolist() == LOGITS.repeat(3, 1).tolist(), "the logits of logprobs stay"


def test_nothing_is_copied_where_nothing_changes() -> None:
    logits = LOGITS[None].clone()
    assert processed(logits, [sequence(repetition_penalty=1.0, presence_penalty=0.0)]) is logits


@pytest.mark.parametrize(
    ("generated", "expected"),
    [((), {9}), ((1,), {2, 9}), ((1, 2), {3, 9}), ((7, 1), {2, 9}), ((1, 7), {9}), ((2, 1, 2), {3, 9})],
)
def test_only_the_last_token_of_a_bad_word_is_forbidden(generated: tuple[int, ...], expected: set[int]) -> None:
    assert completing([(9,), (1, 2), (1, 2, 3)], generated) == expected


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"presence_penalty": 2.01}, "presence_penalty must be between -2 and 2, not 2.01"),
        ({"frequency_penalty": -2.01}, "frequency_penalty must be between -2 and 2, not -2.01"),
        ({"presence_penalty": float("nan")}, "presence_penalty must be between -2 and 2, not nan"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0, and finite, not 0.0"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty must be above 0, and finite, not inf"),
        ({"logit_bias": {1: float("nan")}}, "logit_bias must map each token id to a number, not {1: nan}"),
        ({"allowed_token_ids": ()}, "allowed_token_ids must have at least one token id, not []"),
        ({"bad_words": ("a", " ")}, "bad_words must each have a character that is not white space, not ['a', ' ']"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens must be -1 or at least 1, not 0"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens must be -1 or at least 1, not -2"),
    ],
)
def test_bounds(params: dict[str, Any], says: str) -> None:
    with pytest.raises(SamplingParamsError) as refused:
        SamplingParams(**params)
    assert str(refused.value) == says


def test_values_at_the_bounds_are_taken() -> None:
    SamplingParams(presence_penalty=2, frequency_penalty=-2, repetition_penalty=1e-6, truncate_prompt_tokens=-1)
