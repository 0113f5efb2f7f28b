"""Tests of which reference engines use graphs compiled by each other's processes under ``--cb-isolation=engine``."""

from itertools import product

import pytest

from engine.config import EngineConfig
from engine.execution.warm_up import PLANS
from harness.drivers.optional import compile_key
from harness.drivers.reference import ReferenceDriver
from harness.types import EngineSetup


def key(scheduler: str, model: str = "tiny-granite") -> object:
    return compile_key(ReferenceDriver(), EngineSetup(model, "sendnn", 1, 256, 4, None, scheduler))


def kinds_of_steps(scheduler: str) -> list[str]:
    """Return the kinds of steps that the warm-up of an engine with this scheduler compiles."""
    config = EngineConfig(max_model_len=256, max_num_seqs=4, scheduler=scheduler)
    return [type(plan).__name__ for plan in PLANS[scheduler](config)]


@pytest.mark.parametrize(("one", "other"), [*product(PLANS, PLANS)])
def test_engines_inherit_graphs_if_their_warm_ups_compile_the_same_kinds_of_steps(one: str, other: str) -> None:
    """Two engines have the same compile key exactly if their warm-ups compile the same kinds of steps.

    With one key for all schedulers, a chunked engine inherited no graphs for chunks and had to trace them again.
    """
    assert (key(one) == key(other)) == (kinds_of_steps(one) == kinds_of_steps(other))


def test_engines_of_another_model_have_another_key() -> None:
    assert key("continuous") != key("continuous", "smollm2-135m")
