"""Tests that tokens are checked against the probabilities with which they must be sampled.

Tokens of a correct sampler pass, and those of incorrect samplers fail.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.checks.output.distribution import allowed_probabilities, statistics
from harness.types import RequestSpec

SPEC = RequestSpec(0, (1,), 24, temperature=1.5)
LOGITS = torch.randn(60, 24, 300, generator=torch.Generator().manual_seed(1)) * 2
ALARM = 1e-6


def drawn(spec: RequestSpec) -> torch.Tensor:
    """Return tokens ``[60, 24]`` that are sampled correctly by the sampling parameters of ``spec``."""
    probabilities, _ = allowed_probabilities(LOGITS, spec, 0.0)
    flat = probabilities.flatten(0, 1)
    tokens: torch.Tensor = flat.multinomial(1, generator=torch.Generator().manual_seed(2)).reshape(60, 24)
    return tokens


def fails(tokens: torch.Tensor, spec: RequestSpec) -> set[str]:
    found = statistics(tokens, *allowed_probabilities(LOGITS, spec, 1e-3), 0.0, ALARM)
    wrong = {"outside"} if found.outside else set()
    wrong |= {"distance"} if found.distance > found.distance_bound else set()
    return wrong | ({"repeats"} if found.repeats > found.repeats_bound else set())


@pytest.mark.parametrize(
    "params",
    [{}, {"temperature": 0.3}, {"temperature": 50.0}, {"top_k": 5}, {"top_p": 0.7}, {"min_p": 0.1}, {"top_k": 10**6}],
    ids=str,
)
def test_what_is_drawn_as_it_should_be_passes(params: dict[str, Any]) -> None:
    spec = replace(SPEC, **params)
    assert fails(drawn(spec), spec) == set()


@pytest.mark.parametrize(
    ("requested", "done", "wrong"),
    [
        ({}, {"temperature": 1.0}, {"distance"}),
        ({"temperature": 1.0}, {"temperature": 1.5}, {"distance"}),
        ({"top_k": 5}, {"top_k": 6}, {"outside"}),
        ({"top_k": 5}, {"top_k": 4}, {"distance"}),
        ({"top_p": 0.7}, {}, {"outside", "distance"}),
        ({"min_p": 0.1}, {}, {"outside", "distance"}),
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_what_is_drawn_otherwise_fails(requested: dict[str, Any], done: dict[str, Any], wrong: set[str]) -> None:
    assert fails(drawn(replace(SPEC, **done)), replace(SPEC, **requested)) >= wrong


def test_a_source_that_is_seeded_anew_at_every_token_repeats_itself() -> None:
    spec = replace(SPEC, temperature=50.0)
    noise = torch.empty(60, 1, 300).exponential_(generator=torch.Generator().manual_seed(3))
    assert "repeats" in fails((allowed_probabilities(LOGITS, spec, 0.0)[0] / noise).argmax(-1), spec)


def test_filters_come_one_after_the_other() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    spec = RequestSpec(0, (1,), 1, temperature=1.0, top_k=2, top_p=0.5)
    assert allowed_probabilities(logits, spec, 0.0)[0].tolist() == pytest.approx([0, 1, 0, 0])
    assert allowed_probabilities(logits, replace(spec, top_p=0.6), 0.0)[0].tolist() == pytest.approx(
        [0, 4 / 7, 0, 3 / 7]
    )
    hot = replace(spec, top_k=0, top_p=1.0, temperature=0.5, min_p=0.5)
    assert allowed_probabilities(logits, hot, 0.0)[0].tolist() == pytest.approx([0, 16 / 25, 0, 9 / 25])


def test_an_edge_lets_in_what_is_as_close_as_the_slack() -> None:
    logits = torch.tensor([1.0, 0.5, 0.4999, 0.0])
    spec = RequestSpec(0, (1,), 1, temperature=1.0, top_k=2)
    assert allowed_probabilities(logits, spec, 1e-3)[1].tolist() == [True, True, True, False]
    assert allowed_probabilities(logits, spec, 0.0)[1].tolist() == [True, True, False, False]
