"""The token-budget scheduler with the built-in model: the recorded steps, and the tokens that vLLM generated."""

from typing import Any

import pytest
import torch

from checkpoints import resolve
from engine.model.runner import ModelRunner
from tests.engine.token_budget_recordings import RECORDED, VERSIONS, Replay, config_of

WORKLOADS = RECORDED["workloads"]


@pytest.mark.parametrize("rules", VERSIONS)
@pytest.mark.parametrize("workload", WORKLOADS, ids=[w["name"] for w in WORKLOADS])
def test_every_step_and_token_is_as_recorded(workload: dict[str, Any], rules: str) -> None:
    torch.set_num_threads(1)
    config = config_of(workload, rules)
    replay = Replay(workload, config, ModelRunner(config, resolve("tiny-granite")))
    replay.run(len(workload["steps"][rules]) - 1)
    assert replay.rows == workload["steps"][rules]
    assert replay.outputs == workload["tokens"]
