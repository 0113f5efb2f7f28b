"""Tests of the five conditions of admission, each with a request at its limit and one just beyond it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import Limits
from engine.scheduling.continuous.admission import (
    Candidate,
    Running,
    fits_blocks,
    fits_context,
    largest_batch_tkv,
)
from tests.helpers.engine import add, core_with, request, step


def fresh(prompt_length: int, max_tokens: int) -> Running:
    """Return a running sequence whose prompt is computed and which has not decoded yet."""
    return Running(prompt_length, max_tokens, computed=prompt_length)


def test_what_remains_of_a_budget_counts_tokens_in_the_cache_beyond_the_prompt() -> None:
    assert Running(prompt_length=10, max_tokens=5, computed=10).remaining == 5
    assert Running(prompt_length=10, max_tokens=5, computed=13).remaining == 2


# Condition 3: context.


@pytest.mark.parametrize(("max_tokens", "fits"), [(28, True), (29, False)])
def test_the_budget_of_a_shorter_prompt_counts_from_tkv(max_tokens: int, fits: bool) -> None:
    assert fits_context(Candidate(10, max_tokens), [fresh(64, 4)], tkv=100, max_model_len=128) is fits


@pytest.mark.parametrize(("max_tokens", "fits"), [(28, True), (29, False)])
def test_the_budget_of_a_longer_prompt_counts_from_the_grown_tkv(max_tokens: int, fits: bool) -> None:
    assert fits_context(Candidate(101, max_tokens), [fresh(64, 4)], tkv=100, max_model_len=192) is fits


@pytest.mark.parametrize(("remaining", "fits"), [(28, True), (29, False)])
def test_where_tkv_grows_the_remaining_budget_of_everybody_running_counts(remaining: int, fits: bool) -> None:
    running = [fresh(5, 1), Running(50, remaining + 7, computed=57), fresh(6, 2)]
    assert fits_context(Candidate(101, 1), running, tkv=100, max_model_len=192) is fits


def test_running_sequences_are_not_checked_if_tkv_does_not_grow() -> None:
    running = [fresh(64, 500)]
    assert fits_context(Candidate(100, 1), running, tkv=100, max_model_len=128)
    assert not fits_context(Candidate(101, 1), running, tkv=100, max_model_len=192)


# Condition 4: blocks.


@pytest.mark.parametrize(("unreserved", "fits"), [(2, True), (1, False)])
def test_the_worst_case_must_fit_the_unreserved_blocks(unreserved: int, fits: bool) -> None:
    assert fits_blocks(Candidate(64, 65), tkv=64, unreserved=unreserved) is fits


@pytest.mark.parametrize(("max_tokens", "fits"), [(65, True), (66, False)])
def test_the_last_token_needs_no_room(max_tokens: int, fits: bool) -> None:
    assert fits_blocks(Candidate(64, max_tokens), tkv=64, unreserved=2) is fits


@pytest.mark.parametrize(("unreserved", "fits"), [(2, True), (1, False)])
def test_blocks_of_padding_are_not_needed(unreserved: int, fits: bool) -> None:
    assert fits_blocks(Candidate(10, 20), tkv=192, unreserved=unreserved) is fits


@pytest.mark.parametrize(("max_tokens", "unreserved", "fits"), [(29, 3, True), (29, 2, False), (30, 3, False)])
def test_a_longer_prompt_asks_for_the_blocks_of_the_grown_tkv(max_tokens: int, unreserved: int, fits: bool) -> None:
    assert fits_blocks(Candidate(101, max_tokens), tkv=100, unreserved=unreserved) is fits


# Condition 5: batch x tkv.


@pytest.mark.parametrize(
    ("about", "new", "running", "batch_tkv"),
    [
        ("all end together", (64, 10), [(64, 10)], 2 * 73),
        ("the new one ends first", (64, 10), [(64, 50)], 2 * 73),
        ("the new one ends last, and alone it is not counted", (64, 100), [(64, 10)], 2 * 73),
        ("in the middle", (64, 60), [(64, 10), (64, 100)], 2 * 123),
        ("in the middle, given in another order", (64, 60), [(64, 100), (64, 10)], 2 * 123),
        ("in the middle, where the larger batch counts more", (64, 20), [(64, 15), (64, 100)], 3 * 78),
        ("two end at once before it", (64, 20), [(64, 10), (64, 10)], 3 * 73),
        ("two end at once, and alone it lasts long", (64, 200), [(64, 10), (64, 10)], 3 * 73),
        ("growth moves every end", (65, 10), [(64, 10)], 2 * 137),
    ],
)
def test_the_largest_batch_tkv(
    about: str, new: tuple[int, int], running: list[tuple[int, int]], batch_tkv: int
) -> None:
    assert largest_batch_tkv(Candidate(*new), [fresh(*sequence) for sequence in running], tkv=64) == batch_tkv, about


def test_a_sequence_under_way_ends_the_sooner() -> None:
    running = [Running(64, 30, computed=84)]  # 10 of 30 remain
    assert largest_batch_tkv(Candidate(64, 9), running, tkv=84) == 2 * 92
    assert largest_batch_tkv(Candidate(64, 200), running, tkv=84) == 2 * 93


@given(
    tkv=st.integers(64, 300),
    new=st.tuples(st.integers(1, 400), st.integers(1, 100)),
    remaining=st.lists(st.integers(1, 100), min_size=1, max_size=4),
)
def test_the_largest_batch_tkv_is_that_of_the_worst_step_with_others(
    tkv: int, new: tuple[int, int], remaining: list[int]
) -> None:
    candidate = Candidate(*new)
    grown = tkv
    while grown < candidate.prompt_length:
        grown += 64
    # A sequence with r remaining tokens takes part in the steps with tkv grown, ..., grown + r - 1.
    shared_steps = range(min(candidate.max_tokens, max(remaining)))
    values = [(1 + sum(other > at for other in remaining)) * (grown + at) for at in shared_steps]
    running = [Running(10, each, computed=10) for each in remaining]
    assert largest_batch_tkv(candidate, running, tkv) == max(values)


# All conditions, through the scheduler.


@pytest.mark.parametrize(
    ("first", "second", "enough", "too_tight"),
    [
        ((64, 10), (64, 10), Limits(max_num_seqs=2), Limits(max_num_seqs=1)),
        ((64, 10), (64, 10), Limits(max_model_len=74), Limits(max_model_len=73)),
        ((64, 20), (65, 1), Limits(max_model_len=148), Limits(max_model_len=147)),
        ((64, 10), (64, 10), Limits(available_blocks=4), Limits(available_blocks=3)),
        ((64, 10), (64, 10), Limits(max_batch_tkv_limit=146), Limits(max_batch_tkv_limit=145)),
        ((64, 10), (65, 10), Limits(max_batch_tkv_limit=274), Limits(max_batch_tkv_limit=273)),
        ((64, 10), (64, 99), Limits(max_batch_tkv_limit=146), Limits(max_batch_tkv_limit=145)),
    ],
    ids=[
        "batch",
        "context",
        "context of the running one",
        "blocks",
        "batch_tkv",
        "batch x tkv after growth",
        "batch x tkv while it is not alone",
    ],
)
def test_a_request_joins_at_the_limit_and_waits_beyond_it(
    first: tuple[int, int], second: tuple[int, int], enough: Limits, too_tight: Limits
) -> None:
    for limits, joins in ((enough, True), (too_tight, False)):
        core = add(core_with(limits), request("first", *first), request("second", *second))
        core.step()
        record = core.step()
        assert record.request_outputs == (("second",) if joins else ("first",))
        assert record.waiting == (() if joins else ("second",))


def test_blocks_of_an_ended_sequence_can_be_reserved_in_the_next_step() -> None:
    core = add(core_with(Limits(available_blocks=2)), request("first", 64, 2), request("second", 64, 2))
    core.step()
    ending = core.step()
    assert ending.finished_requests == ("first",)
    assert core.step().request_outputs == ("second",)


def test_admission_asks_with_the_tkv_from_before_padding_is_removed() -> None:
    core = add(core_with(Limits(max_model_len=256)), request("long", 130, 2), request("short", 10, 30))
    step_3 = step(core, times=3)
    assert (step_3.tkv, step_3.finished_requests) == (193, ("long",))
    add(core, request("new", 10, 64))  # 64 > 256 - 193, although 64 <= 256 - 65
    assert core.step().request_outputs == ("short",)
    assert core.step().request_outputs == ("new",)
