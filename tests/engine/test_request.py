"""Tests that invalid sampling parameters are refused with a message of one sentence, and that valid ones are kept."""

from typing import Any

import pytest

from engine.request import MAX_LOGPROBS, Request, SamplingParams, SamplingParamsError
from tests.helpers.engine import is_one_sentence

NOT_A_NUMBER = float("nan")


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"n": 0}, "n must"),
        ({"n": 2, "temperature": 0}, "n must be 1 with temperature 0"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": NOT_A_NUMBER}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_k": -2}, "top_k"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_p": NOT_A_NUMBER}, "top_p"),
        ({"min_p": -0.01}, "min_p"),
        ({"min_p": 1.01}, "min_p"),
        ({"seed": 2**63}, "seed"),
        ({"seed": -(2**63) - 1}, "seed"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": 17, "max_tokens": 16}, "min_tokens must not exceed max_tokens 16"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": MAX_LOGPROBS + 1}, "logprobs"),
        ({"stop": ""}, "stop strings"),
        ({"stop": ("a", "")}, "stop strings"),
    ],
    ids=str,
)
def test_impossible_parameters_are_refused_with_their_value(params: dict[str, Any], named: str) -> None:
    with pytest.raises(SamplingParamsError) as refusal:
        SamplingParams(**params)
    message = str(refusal.value)
    assert named in message
    assert ", not " in message
    assert is_one_sentence(message)


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0},
        {"n": 3, "temperature": 0.1},
        {"top_k": -1},
        {"top_p": 1},
        {"min_p": 0},
        {"min_p": 1},
        {"seed": 0},
        {"seed": -(2**63)},
        {"seed": 2**63 - 1},
        {"min_tokens": 16, "max_tokens": 16},
        {"min_tokens": 1000, "max_tokens": None},
        {"max_tokens": 1},
        {"logprobs": 0},
        {"logprobs": MAX_LOGPROBS},
    ],
    ids=str,
)
def test_parameters_at_their_limits_are_taken(params: dict[str, Any]) -> None:
    taken = SamplingParams(**params)
    assert {name: getattr(taken, name) for name in params} == params


def test_stop_strings_are_a_tuple_whichever_way_they_were_given() -> None:
    givens: list[Any] = ["end", ("end",), ["end"]]
    for given in givens:
        assert SamplingParams(stop=given).stop_strings == ("end",)
    assert SamplingParams().stop_strings == ()


def test_parameters_can_be_a_key_although_they_were_given_with_lists() -> None:
    lists: dict[str, Any] = {"stop": ["a"], "stop_token_ids": [1]}
    assert SamplingParams(**lists) == SamplingParams(stop="a", stop_token_ids=(1,))
    assert len({SamplingParams(**lists), SamplingParams(stop="a", stop_token_ids=(1,))}) == 1


def test_only_temperature_zero_is_greedy() -> None:
    assert SamplingParams(temperature=0).greedy
    assert not SamplingParams(temperature=1e-9).greedy


def test_a_request_in_the_core_must_know_its_budget() -> None:
    assert Request("a", (1,), SamplingParams(max_tokens=9)).max_tokens == 9
    with pytest.raises(SamplingParamsError, match="request a has no max_tokens"):
        _ = Request("a", (1,), SamplingParams(max_tokens=None)).max_tokens
