"""Tests of the sampler: filters, random generators, masked tokens and logprobs."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.model.sampler import filtered_probabilities, hash_text, sample
from engine.request import Request, SamplingParams, TokenOutput
from engine.sequence import SequenceState

EOS = 0
# Probabilities 0.1, 0.4, 0.2, 0.3.
LOGITS = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()


def sequence(request_id: str = "a", eos: frozenset[int] = frozenset(), **params: Any) -> SequenceState:
    return SequenceState(Request(request_id, (5,), SamplingParams(**params)), eos, None, max_model_len=512)


def draw(logits: torch.Tensor, *sequences: SequenceState, seed: int = 0) -> list[int]:
    """Sample one token for each sequence, append it to the sequence as the engine does, and return the tokens."""
    outputs = sample(logits, sequences, seed)
    for each, token in zip(sequences, outputs, strict=True):
        each.append(token)
    return [token.token_id for token in outputs]


def distribution(**params: Any) -> list[float]:
    return filtered_probabilities(LOGITS[None], [SamplingParams(**params)])[0].tolist()


def test_greedy_takes_the_most_likely_token_of_each_row() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert draw(logits, sequence("a", temperature=0), sequence("b", temperature=0)) == [1, 0]


def test_greedy_ignores_the_filters_and_the_seed() -> None:
    rows = [sequence(str(i), temperature=0, top_k=3, top_p=0.9, min_p=0.1, seed=i) for i in range(20)]
    assert draw(LOGITS.repeat(20, 1), *rows) == [1] * 20


@pytest.mark.parametrize(
    ("params", "probabilities"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 4}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 100}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": -1}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_p": 0.39}, [0, 1, 0, 0]),
        ({"top_p": 0.41}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.69}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.71}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_p": 0.91}, [0.1, 0.4, 0.2, 0.3]),
        ({"min_p": 0.24}, [0.1, 0.4, 0.2, 0.3]),
        ({"min_p": 0.26}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"min_p": 0.74}, [0, 4 / 7, 0, 3 / 7]),
        ({"min_p": 0.76}, [0, 1, 0, 0]),
        ({"min_p": 1.0}, [0, 1, 0, 0]),
        ({"temperature": 0.5}, [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        # Each filter works on the result of the previous one: 4/7, 3/7, then temperature before all of them.
        ({"top_k": 2, "top_p": 0.5}, [0, 1, 0, 0]),
        ({"min_p": 0.6, "top_p": 0.55}, [0, 1, 0, 0]),  # min_p leaves 4/7 and 3/7
        ({"top_k": 3, "min_p": 0.6}, [0, 4 / 7, 0, 3 / 7]),
        ({"temperature": 0.5, "top_p": 0.5}, [0, 1, 0, 0]),
    ],
    ids=str,
)
def test_filters_leave_these_probabilities(params: dict[str, Any], probabilities: list[float]) -> None:
    assert distribution(**params) == pytest.approx(probabilities, abs=1e-6)


def test_tokens_as_likely_as_the_last_of_the_top_k_all_stay() -> None:
    kept = filtered_probabilities(torch.tensor([[1.0, 2.0, 1.0, 0.0]]), [SamplingParams(top_k=2)])[0]
    assert (kept > 0).tolist() == [True, True, True, False]


def test_the_most_likely_token_stays_for_any_top_p() -> None:
    assert distribution(top_p=1e-60) == [0, 1, 0, 0]


@pytest.mark.parametrize("temperature", [1e-2, 1e-6, 1e-30, 1e-40, 1e-300])
def test_a_temperature_towards_zero_is_greedy(temperature: float) -> None:
    assert distribution(temperature=temperature) == pytest.approx([0, 1, 0, 0], abs=1e-6)


def test_a_high_temperature_makes_all_tokens_alike() -> None:
    assert distribution(temperature=1e6) == pytest.approx([0.25] * 4, abs=1e-5)


@settings(deadline=None)
@given(
    logits=st.lists(st.integers(-400, 400).map(lambda eighths: eighths / 8), min_size=1, max_size=30),
    temperature=st.floats(1e-3, 10),
    top_k=st.integers(-1, 40),
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=st.floats(0, 1),
)
def test_filters_leave_a_distribution_with_the_most_likely_token(
    logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    probabilities = filtered_probabilities(torch.tensor([logits]), [params])[0]
    assert (probabilities >= 0).all()
    assert math.isclose(probabilities.sum().item(), 1, rel_tol=1e-4)
    best = probabilities[max(range(len(logits)), key=logits.__getitem__)]
    assert 0 < best == probabilities.max()


def test_a_seed_draws_the_same_tokens_again_and_another_one_others() -> None:
    def tokens(seed: int) -> list[int]:
        a = sequence(seed=seed, max_tokens=200)
        return [draw(LOGITS[None], a)[0] for _ in range(50)]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_what_a_request_draws_does_not_depend_on_who_shares_its_batch() -> None:
    alone, between = (sequence("a", seed=5, max_tokens=200) for _ in range(2))
    neighbour, greedy = sequence("b", max_tokens=200), sequence("c", temperature=0, max_tokens=200)
    flat = torch.zeros(4)
    for at in range(50):
        # Rows join and leave, as in a running batch.
        rows = [neighbour, between, greedy] if at % 3 else [between]
        logits = torch.stack([LOGITS if row is between else flat for row in rows])
        assert draw(logits, *rows)[rows.index(between)] == draw(LOGITS[None], alone)[0]


def test_without_a_seed_the_id_and_the_engines_seed_make_it_repeatable() -> None:
    def tokens(request_id: str, engine_seed: int) -> list[int]:
        a = sequence(request_id, max_tokens=200)
        return [draw(LOGITS[None], a, seed=engine_seed)[0] for _ in range(50)]

    assert tokens("a", 0) == tokens("a", 0)
    assert tokens("a", 0) != tokens("b", 0)
    assert tokens("a", 0) != tokens("a", 1)


def test_the_hash_of_a_text_is_a_seed_and_the_same_in_every_process() -> None:
    assert hash_text("0/a") == 45967282631534572
    assert len({hash_text(f"0/{i}") for i in range(1000)}) == 1000
    assert hash_text("x" * 1000) < 2**63


def is_drawn_from(counts: Counter[int], probabilities: list[float]) -> bool:
    """Return whether a chi-square test accepts that tokens with these counts were drawn with these probabilities.

    The test has a false-positive rate of 1e-6, for 4 tokens (3 degrees of freedom).
    """
    total = counts.total()
    return sum((counts[i] - total * p) ** 2 / (total * p) for i, p in enumerate(probabilities)) < 30.7


def test_one_source_draws_by_the_probabilities() -> None:
    a = sequence(seed=3, max_tokens=4000)
    counts = Counter(draw(LOGITS[None], a)[0] for _ in range(3000))
    assert is_drawn_from(counts, [0.1, 0.4, 0.2, 0.3])
    assert not is_drawn_from(counts, [0.25] * 4)


def test_the_first_draws_of_many_sources_follow_the_probabilities() -> None:
    rows = [sequence(str(i)) for i in range(3000)]
    counts = Counter(draw(LOGITS.repeat(3000, 1), *rows))
    assert is_drawn_from(counts, [0.1, 0.4, 0.2, 0.3])


def test_filtered_tokens_are_never_drawn() -> None:
    rows = [sequence(str(i), top_k=2) for i in range(500)]
    assert set(draw(LOGITS.repeat(500, 1), *rows)) == {1, 3}


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_until_min_tokens_the_tokens_that_end_a_request_cannot_be_drawn(temperature: float) -> None:
    logits = torch.tensor([[50.0, 40.0, 1.0, 0.0]])
    a = sequence(
        eos=frozenset({EOS}), temperature=temperature, min_tokens=2, stop_token_ids=(1,), max_tokens=9, top_k=1
    )
    assert [draw(logits, a)[0] for _ in range(3)] == [2, 2, EOS]


def test_an_ignored_end_of_sequence_token_is_never_forbidden() -> None:
    a = sequence(eos=frozenset({EOS}), temperature=0, min_tokens=2, ignore_eos=True)
    assert draw(torch.tensor([[5.0, 4.0]]), a) == [EOS]


def test_tokens_are_forbidden_to_one_row_and_not_to_the_next() -> None:
    logits = torch.tensor([[5.0, 4.0]]).repeat(2, 1)
    eos = frozenset({EOS})
    assert draw(logits, sequence("a", eos, temperature=0, min_tokens=1), sequence("b", eos, temperature=0)) == [1, EOS]


@pytest.mark.parametrize("stop_token_id", [-1, 4, 10**6])
def test_a_stop_token_outside_the_vocabulary_forbids_nothing(stop_token_id: int) -> None:
    a = sequence(temperature=0, min_tokens=2, stop_token_ids=(stop_token_id,))
    assert draw(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), a) == [3]


def test_no_logprobs_unless_requested() -> None:
    rows = sequence("a", temperature=0), sequence("b", temperature=0, logprobs=1)
    without, with_one = sample(LOGITS.repeat(2, 1), rows, 0)
    assert without == TokenOutput(1)
    assert with_one.logprob is not None


def test_logprobs_come_best_first_and_as_many_as_requested() -> None:
    rows = [sequence(str(count), temperature=0, logprobs=count) for count in (0, 1, 3)]
    outputs = sample(LOGITS.repeat(3, 1), rows, 0)
    assert [[token_id for token_id, _ in output.top] for output in outputs] == [[], [1], [1, 3, 2]]
    assert [value for _, value in outputs[2].top] == pytest.approx([math.log(p) for p in (0.4, 0.3, 0.2)])
    assert {output.rank for output in outputs} == {1}
    assert [output.logprob for output in outputs] == pytest.approx([math.log(0.4)] * 3)


def test_logprobs_are_those_of_the_raw_logits() -> None:
    changed = sequence(
        eos=frozenset({1}), temperature=0.5, top_k=1, min_tokens=1, logprobs=2, seed=0
    )  # token 1 is masked, so only 3 is left
    (output,) = sample(LOGITS[None] + 7, [changed], 0)
    assert output.token_id == 3
    assert output.logprob == pytest.approx(math.log(0.3), abs=1e-5)
    assert output.rank == 2
    assert [token_id for token_id, _ in output.top] == [1, 3]


def test_the_logits_that_came_in_are_left_as_they_were() -> None:
    logits = LOGITS[None].clone()
    draw(logits, sequence(eos=frozenset({EOS}), min_tokens=3, top_k=2, temperature=0.3, logprobs=2))
    assert torch.equal(logits, LOGITS[None])


def test_rows_are_filtered_together_as_each_would_be_alone() -> None:
    torch.manual_seed(0)
    params = [
        SamplingParams(temperature=0.7, top_k=5),
        SamplingParams(top_p=0.4),
        SamplingParams(),
        SamplingParams(temperature=2, top_k=9, top_p=0.8, min_p=0.1),
        SamplingParams(min_p=0.3),
    ]
    logits = torch.randn(len(params), 50)
    together = filtered_probabilities(logits, params)
    alone = [filtered_probabilities(row[None], [each])[0] for row, each in zip(logits, params, strict=True)]
    assert torch.equal(together, torch.stack(alone))
