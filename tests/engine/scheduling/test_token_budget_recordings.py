"""Replay every step that was recorded from vLLM's own scheduler, without a model: all columns must be equal."""

from typing import Any

import pytest

from engine.config import EngineConfig
from engine.simulation import NoModel
from tests.helpers.token_budget_recordings import RECORDED, VERSIONS, Replay, config_of

WORKLOADS = RECORDED["workloads"]


def scripted(workload: dict[str, Any]) -> NoModel:
    executor = NoModel()
    executor.scripts = {str(number): tokens for number, tokens in enumerate(workload["tokens"])}
    return executor


@pytest.mark.requirement("TB-FREE-03")
@pytest.mark.parametrize("rules", VERSIONS)
@pytest.mark.parametrize("workload", WORKLOADS, ids=[w["name"] for w in WORKLOADS])
def test_every_step_is_as_recorded(workload: dict[str, Any], rules: str) -> None:
    recorded = workload["steps"][rules]
    replay = Replay(workload, config_of(workload, rules), scripted(workload))
    replay.run(len(recorded) - 1)
    for observed, expected in zip(replay.rows, recorded, strict=True):
        assert dict(zip(RECORDED["columns"], observed, strict=True)) == dict(
            zip(RECORDED["columns"], expected, strict=True)
        )
    assert not replay.core.has_work


@pytest.mark.parametrize("workload", [w for w in WORKLOADS if w["steps"]["0.27"] != w["steps"]["0.32"]])
def test_the_rules_of_one_version_are_not_those_of_the_other(workload: dict[str, Any]) -> None:
    """Replay with the rules of vLLM 0.32 and compare with the recording of 0.27: the rows must differ.

    The default of the option ``rules`` must be 0.27.
    """
    config = config_of(workload, "0.32")
    assert EngineConfig(scheduler="token_budget").token_budget.rules == "0.27"
    replay = Replay(workload, config, scripted(workload))
    replay.run(len(workload["steps"]["0.32"]) - 1)
    assert replay.rows != workload["steps"]["0.27"]


def test_nothing_recorded_is_left_out() -> None:
    assert len(WORKLOADS) == 19
    assert {rules: sum(len(w["steps"][rules]) for w in WORKLOADS) for rules in VERSIONS} == {"0.27": 945, "0.32": 940}
