"""Tests of the configuration of an engine, and of the limits that can be reduced after it is built."""

from typing import Any

import pytest

from engine.config import ConfigError, EngineConfig, Limits, ResolvedLimits, resolve_limits
from tests.helpers.engine import is_one_sentence

BUILT = EngineConfig(max_model_len=512, max_num_seqs=4)


@pytest.mark.parametrize(
    ("max_model_len", "max_num_seqs", "total"),
    [(512, 4, 36), (512, 1, 9), (512, 3, 27), (64, 2, 4), (2048, 4, 132), (192, 3, 12), (64, 64, 128)],
)
def test_the_default_number_of_blocks(max_model_len: int, max_num_seqs: int, total: int) -> None:
    config = EngineConfig(max_model_len=max_model_len, max_num_seqs=max_num_seqs)
    assert config.total_blocks == total
    assert config.available_blocks == total - 1


@pytest.mark.requirement("CB-LIMIT-06")
@pytest.mark.parametrize(("num_blocks", "total"), [(12, 12), (13, 12), (15, 12), (16, 16), (100, 100)])
def test_num_blocks_is_rounded_down_to_a_multiple_of_the_batch(num_blocks: int, total: int) -> None:
    assert EngineConfig(max_model_len=512, max_num_seqs=4, num_blocks=num_blocks).total_blocks == total


@pytest.mark.requirement("CB-LIMIT-07")
def test_the_cache_must_hold_one_full_sequence() -> None:
    assert EngineConfig(max_model_len=512, max_num_seqs=1, num_blocks=9).available_blocks == 8
    with pytest.raises(ConfigError, match=r"7 blocks for sequences, but one sequence of max_model_len 512 needs 8"):
        EngineConfig(max_model_len=512, max_num_seqs=1, num_blocks=8)
    with pytest.raises(ConfigError, match=r"7 blocks"):
        EngineConfig(max_model_len=512, max_num_seqs=4, num_blocks=11)  # rounded down to 8


def test_a_cache_that_no_machine_holds_is_refused_before_it_is_built() -> None:
    with pytest.raises(
        ConfigError, match=r"max_num_seqs 10000000 and max_model_len 512 need a KV cache of 90,000,000 blocks"
    ):
        EngineConfig(max_model_len=512, max_num_seqs=10_000_000)


def test_the_default_batch_tkv_limit_is_a_full_batch() -> None:
    assert BUILT.batch_tkv_limit == 2048
    assert EngineConfig(max_model_len=512, max_num_seqs=4, max_batch_tkv_limit=1).batch_tkv_limit == 1


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"max_model_len": 0}, "max_model_len"),
        ({"max_model_len": 65}, "max_model_len 65"),
        ({"max_num_seqs": 0}, "max_num_seqs"),
        ({"max_num_seqs": -1}, "max_num_seqs"),
        ({"num_blocks": 0}, "num_blocks"),
        ({"num_blocks": 3}, "blocks"),
        ({"max_batch_tkv_limit": 0}, "max_batch_tkv_limit"),
        ({"backend": "tensorrt"}, "backend 'tensorrt' is not known: choose from eager"),
        ({"attention": "flash"}, "attention 'flash' is not known: choose from paged, fms"),
        ({"scheduler": "magic"}, "scheduler 'magic' is not known: choose from continuous"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size"),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_work_is_refused_in_one_sentence(config: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        EngineConfig(**config)
    assert named in str(refusal.value)
    assert is_one_sentence(str(refusal.value))


def test_any_seed_will_do() -> None:
    assert EngineConfig(seed=0).seed == 0
    assert EngineConfig(seed=-5).seed == -5


def test_limits_that_are_left_open_are_what_the_engine_was_built_with() -> None:
    assert resolve_limits(BUILT, Limits()) == ResolvedLimits(512, 4, 35, 2048)
    assert resolve_limits(BUILT, Limits(max_num_seqs=2)) == ResolvedLimits(512, 2, 35, 2048)


NAMES = ["max_model_len", "max_num_seqs", "available_blocks", "max_batch_tkv_limit"]


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_may_be_what_was_built_or_tighter_and_not_one_more(name: str) -> None:
    most = getattr(resolve_limits(BUILT, Limits()), name)
    for value in (1, most - 1, most):
        assert getattr(resolve_limits(BUILT, Limits(**{name: value})), name) == value
    with pytest.raises(ConfigError, match=f"{name} {most + 1} exceeds the {most}") as refusal:
        resolve_limits(BUILT, Limits(**{name: most + 1}))
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_below_one_is_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, not {value}"):
        resolve_limits(BUILT, Limits(**{name: value}))
