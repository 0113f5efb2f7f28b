"""Tests of the comparison of an answer's logprobs, and of its alternatives, with those of the reference."""

import math
from typing import Any

import pytest

from harness.cases.behaviour.logprobs import LOWEST, ExpectedLogprobs, wrong_logprobs
from harness.drivers.client import Logprobs

OWN = (None, -0.2, -5.0)
TOP = ((), (-0.2, -2.0, -3.0), (-0.3, -1.5, -4.0))
WANTED = ExpectedLogprobs(OWN, TOP, 2)


def wrong(
    own: Any = OWN, listed: Any = ((), (-2.0, -0.2), (-0.3, -1.5)), wanted: ExpectedLogprobs = WANTED
) -> list[str]:
    return wrong_logprobs("answer 0", Logprobs(own, listed), wanted, "float32")


@pytest.mark.parametrize("last", [(-0.3, -1.5), (-1.5, -0.3), (-5.0, -0.3, -1.5)])
def test_alternatives_may_be_in_any_order_and_include_the_token_itself(last: tuple[float, ...]) -> None:
    assert wrong(listed=((), (-0.2, -2.0), last)) == []


@pytest.mark.parametrize(
    ("last", "says"),
    [
        ((-0.3,), "token 2 has 1 alternatives, expected 2"),
        ((-0.3, -1.5, -4.0), "token 2 has alternative 3 with logprob -4.0000, Hugging Face says -5.0000"),
        ((-0.3, -1.5, -5.0, -5.0), "token 2 has 4 alternatives, expected 3"),
        ((-0.3, -4.0), "token 2 has alternative 2 with logprob -4.0000, Hugging Face says -1.5000"),
        ((-0.3, -math.inf), "token 2 has alternative 2 with logprob -inf, Hugging Face says -1.5000"),
        ((0.0, -1.5), "token 2 has alternative 1 with logprob 0.0000, Hugging Face says -0.3000"),
    ],
)
def test_wrong_alternatives_are_reported(last: tuple[float, ...], says: str) -> None:
    assert wrong(listed=((), (-0.2, -2.0), last)) == [f"answer 0: {says}"]


def test_tokens_that_a_constraint_excludes_have_the_lowest_logprob() -> None:
    wanted = ExpectedLogprobs((0.0,), ((0.0,),), 2)
    assert wrong((0.0,), ((0.0, LOWEST),), wanted) == []
    assert wrong((0.0,), ((0.0, -math.inf),), wanted) == []
    assert wrong((0.0,), ((0.0, -7.0),), wanted) == [
        "answer 0: token 0 has alternative 2 with logprob -7.0000, Hugging Face says -inf"
    ]


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ((-1.0, -0.2, -5.0), "answer 0: logprob of token 0 is -1.0000, Hugging Face says none"),
        ((None, None, -5.0), "answer 0: logprob of token 1 is none, Hugging Face says -0.2000"),
        ((None, -0.2), "answer 0 has 2 logprobs, expected 3"),
    ],
)
def test_wrong_logprobs_are_reported(own: Any, says: str) -> None:
    assert wrong(own) == [says]


def test_alternatives_for_every_token_are_expected() -> None:
    assert wrong(listed=((), (-0.2, -2.0))) == ["answer 0 has alternatives for 2 tokens, expected 3"]
    assert wrong((-0.2,), (), ExpectedLogprobs((-0.2,), ((-0.2,),), 0)) == []
    assert wrong_logprobs("answer 0", None, WANTED, "float32") == ["answer 0 has 0 logprobs, expected 3"]
