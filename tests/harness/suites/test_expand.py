"""Tests of the expansion of suites to tests: every case with every combination of parameter values."""

from typing import Any

import pytest

from harness.drivers.reference import SimulationDriver
from harness.suites.expand import (
    Configuration,
    Expanded,
    TooManyTestsError,
    expand,
    model_label,
    power_of_two,
    round_up,
)
from harness.suites.schema import Case, Limits, TokenBudget
from harness.types import EngineSetup, SchedulingLimits
from tests.helpers.harness import suite


def names(tests: list[Expanded]) -> list[str]:
    return [test.name for test in tests]


def setup_of(limits: dict[str, int], **parameters: Any) -> EngineSetup:
    return expand(suite(limits=limits, **parameters), ["tiny-granite"])[0].setup


# --- ids -------------------------------------------------------------------------------------------------------


def test_an_id_is_the_case_with_model_and_backend() -> None:
    assert names(expand(suite("joins", "leaves"), ["tiny-granite"])) == [
        "joins[tiny-granite-eager]",
        "leaves[tiny-granite-eager]",
    ]


def test_what_is_not_a_default_is_in_the_id() -> None:
    assert Configuration("m", "sendnn", 4, 8).label == "m-sendnn-tp4-seqs8"
    assert Configuration("m", "eager", 1, None).label == "m-eager"
    assert Configuration("m", "eager", 1, 1).label == "m-eager-seqs1"


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("tiny-granite", "tiny-granite"),
        ("ibm-granite/granite-3.3-8b-instruct", "granite-3.3-8b-instruct"),
        ("/models/granite 8b", "granite-8b"),
        ("/models/granite/", "granite"),
        ("./my_model", "my_model"),
        ("org/name@0123abc", "name-0123abc"),
        ("/models/größe[1]::x", "gr-e-1-x"),
        ("/", "model"),
        ("///", "model"),
    ],
)
def test_a_model_is_called_by_the_last_part_of_its_name_in_plain_characters(model: str, label: str) -> None:
    assert model_label(model) == label


def test_models_with_equal_labels_have_their_whole_names() -> None:
    models = ["/old/granite", "/new/granite", "org/llama", "tiny-granite"]
    tests = expand(suite("joins"), models)
    assert names(tests) == [
        "joins[old-granite-eager]",
        "joins[new-granite-eager]",
        "joins[llama-eager]",
        "joins[tiny-granite-eager]",
    ]
    assert [test.setup.model for test in tests] == models


def test_the_backend_decides_where_a_test_belongs() -> None:
    markers = {backend: Configuration("m", backend).markers for backend in ("eager", "inductor", "sendnn")}
    assert markers == {"eager": ("cpu", "cb"), "inductor": ("cpu", "cb"), "sendnn": ("spyre", "cb")}


def test_static_batching_has_a_marker_and_a_label_of_its_own() -> None:
    configuration = Configuration("m", "eager", scheduler="static")
    assert configuration.markers == ("cpu", "sb")
    assert configuration.label == "m-eager-static"


# --- combinations ----------------------------------------------------------------------------------------------


def test_every_combination_comes_once_configuration_by_configuration() -> None:
    tests = expand(
        suite(
            "a", "b", model=["m", "n"], backend=["eager", "sendnn"], tensor_parallel_size=[1, 2], max_num_seqs=[2, 3]
        ),
        [],
    )
    labels = [test.configuration.label for test in tests[::2]]
    assert labels == [
        f"{model}-{backend}{parallel}-{seqs}"
        for model in ("m", "n")
        for backend in ("eager", "sendnn")
        for parallel in ("", "-tp2")
        for seqs in ("seqs2", "seqs3")
    ]
    assert [test.case.id for test in tests] == ["a", "b"] * 16
    assert [test.index for test in tests] == [0, 1] * 16
    assert len(set(names(tests))) == 32


def test_the_models_of_the_run_stand_where_the_suite_says_so() -> None:
    def models(tests: list[Expanded]) -> list[str]:
        return [test.configuration.model for test in tests]

    assert models(expand(suite(), ["m", "n"])) == ["m", "n"]
    assert models(expand(suite(model=["x", "$models", "y"]), ["m", "n"])) == ["x", "m", "n", "y"]
    assert models(expand(suite(model="x"), ["m", "n"])) == ["x"]


def test_a_model_that_is_named_twice_is_tested_once() -> None:
    tests = expand(suite(model=["n", "$models"]), ["m", "n", "m"])
    assert [test.configuration.model for test in tests] == ["n", "m"]


# --- bounds ----------------------------------------------------------------------------------------------------


def test_a_suite_may_expand_to_as_many_tests_as_it_allows() -> None:
    assert len(expand(suite("a", "b", "c", max_tests=6, backend=["eager", "sendnn"]), ["m"])) == 6


def test_more_tests_than_a_suite_allows_are_refused_with_the_sum() -> None:
    with pytest.raises(TooManyTestsError) as refusal:
        expand(suite("a", "b", "c", max_tests=5, backend=["eager", "sendnn"]), ["m"])
    assert str(refusal.value) == ("the suite has 3 cases x 2 configurations = 6 tests, more than max_tests 5")


def test_the_bound_of_the_run_stands_instead_of_the_suites() -> None:
    both = suite("a", "b", "c", max_tests=5, backend=["eager", "sendnn"])
    assert len(expand(both, ["m"], max_tests=6)) == 6
    with pytest.raises(TooManyTestsError, match="more than max_tests 2"):
        expand(suite("a", "b", "c"), ["m"], max_tests=2)


# --- limits and the shape of the engine ------------------------------------------------------------------------


def test_a_batch_size_that_is_a_parameter_is_the_limit_of_the_case() -> None:
    limits = {"max_model_len": 128, "max_num_seqs": 7}
    tests = expand(suite(limits=limits, max_num_seqs=[2, 3]), ["m"])
    assert [test.limits.max_num_seqs for test in tests] == [2, 3]
    assert {test.limits.max_model_len for test in tests} == {128}
    assert expand(suite(limits=limits), ["m"])[0].limits.max_num_seqs == 7


def test_an_engine_is_at_least_as_large_as_the_robust_shape() -> None:
    assert setup_of({}) == EngineSetup("tiny-granite", "eager", 1, 512, 4, None)
    assert setup_of({"max_model_len": 128, "max_num_seqs": 2, "available_blocks": 3}) == setup_of({})
    assert setup_of({"max_batch_tkv_limit": 10}) == setup_of({})


@pytest.mark.parametrize(("requested", "context"), [(512, 512), (513, 576), (576, 576), (1000, 1024), (2048, 2048)])
def test_the_context_is_whole_blocks(requested: int, context: int) -> None:
    assert setup_of({"max_model_len": requested}).max_model_len == context


@pytest.mark.parametrize(("requested", "batch"), [(1, 4), (4, 4), (5, 8), (8, 8), (9, 16), (17, 32)])
def test_the_batch_is_a_power_of_two(requested: int, batch: int) -> None:
    assert setup_of({"max_num_seqs": requested}).max_num_seqs == batch
    assert setup_of({}, max_num_seqs=[requested]).max_num_seqs == batch


@pytest.mark.parametrize(("requested", "blocks"), [(32, None), (33, 36), (35, 36), (36, 40), (100, 104)])
def test_more_blocks_than_an_engine_has_by_default_are_built_in(requested: int, blocks: int | None) -> None:
    """An engine is built with more blocks if a case requests more than the default: one for padding in addition.

    The number is rounded up to a multiple of the batch size, since the engine would round it down.
    """
    assert setup_of({"available_blocks": requested}).num_blocks == blocks


@pytest.mark.parametrize(
    ("size", "context", "requested", "blocks"),
    [(32, 512, 64, None), (32, 512, 65, 68), (128, 512, 16, None), (128, 512, 17, 20), (96, 512, 24, None)],
)
def test_an_engine_has_more_small_blocks_and_fewer_large_ones(
    size: int, context: int, requested: int, blocks: int | None
) -> None:
    """The last block of a context need not be full: a context of 512 tokens needs 6 blocks of 96."""
    limits = Limits(max_model_len=context, available_blocks=requested)
    case = Case(id="a", limits=limits, token_budget=TokenBudget(block_size=size))
    setup = Expanded(0, case, Configuration("m", "eager", scheduler="token_budget")).setup
    assert (setup.block_size, setup.num_blocks) == (size, blocks)
    session = SimulationDriver().open(setup)
    assert session.reset(SchedulingLimits(available_blocks=requested)).available_blocks == requested


def test_an_engine_can_be_tightened_to_every_limit_it_was_built_for() -> None:
    for blocks in (2, 31, 32, 33, 34, 35, 36, 37, 63, 64, 65):
        for seqs in (1, 4, 5):
            limits = {"max_model_len": 300, "max_num_seqs": seqs, "available_blocks": blocks}
            effective = SimulationDriver().open(setup_of(limits)).reset(SchedulingLimits(**limits))
            assert (effective.max_model_len, effective.max_num_seqs, effective.available_blocks) == (300, seqs, blocks)


def test_cases_that_only_tighten_share_an_engine() -> None:
    setups = {
        setup_of(limits)
        for limits in (
            {"max_model_len": 128},
            {"max_num_seqs": 1},
            {"available_blocks": 4},
            {"max_batch_tkv_limit": 100, "max_num_seqs": 3},
        )
    }
    assert len(setups) == 1


def test_engines_are_shared_by_model_backend_and_processes() -> None:
    tests = expand(suite(model=["m", "n"], backend=["eager", "sendnn"], tensor_parallel_size=[1, 2]), [])
    assert len({test.setup for test in tests}) == 8
    assert tests[-1].setup == EngineSetup("n", "sendnn", 2, 512, 4)


def test_rounding() -> None:
    assert [round_up(n, 64) for n in (1, 63, 64, 65, 128)] == [64, 64, 64, 128, 128]
    assert [power_of_two(n) for n in (1, 2, 3, 4, 5, 8, 9, 1000)] == [1, 2, 4, 4, 8, 8, 16, 1024]
