"""Tests that ibm-fms infers with transformers the same parameters as are read from a config.json."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkpoints import resolve
from engine.model.fms_parameters import fms_model
from tests.helpers.paths import ROOT

GRANITE = json.loads((resolve("tiny-granite").path / "config.json").read_text(encoding="utf-8"))
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "rope_theta": 500000.0,
}
NESTED = {"rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}

SETTINGS_IN_CONFIG = {
    "granite": GRANITE,
    "granite-biased": GRANITE | {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"},
    "granite-head": GRANITE | {"head_dim": 64, "tie_word_embeddings": False},
    "granite-no-scaling": GRANITE | {"rope_scaling": None},
    "granite-old-rope": {k: v for k, v in GRANITE.items() if k != "rope_parameters"} | {"rope_theta": 7.0},
    "llama": LLAMA,
    "llama-tied": LLAMA | {"tie_word_embeddings": True, "attention_bias": True},
    "llama-nested": {k: v for k, v in LLAMA.items() if k != "rope_theta"} | NESTED,
}
LEFT_OPEN = {
    **{
        f"no-{name}": {k: v for k, v in GRANITE.items() if k != name}
        for name in GRANITE
        if name in SETTINGS_IN_CONFIG["llama"]
    },
    "other": LLAMA | {"architectures": ["MistralForCausalLM"]},
    "two-thetas": LLAMA | NESTED,
    "scaling": LLAMA | {"rope_scaling": {"rope_type": "default"}},
    "more-of-rotations": LLAMA | {"rope_parameters": NESTED["rope_parameters"] | {"partial_rotary_factor": 0.5}},
    "null-heads": LLAMA | {"num_key_value_heads": None},
    "null-head": GRANITE | {"head_dim": None},
    "no-multiplier": {k: v for k, v in GRANITE.items() if k != "logits_scaling"},
}
NEEDLESS = ("no-model_type", "no-rope_theta")


@pytest.mark.parametrize("settings", SETTINGS_IN_CONFIG.values(), ids=SETTINGS_IN_CONFIG)
def test_they_are_those_that_ibm_fms_infers(settings: dict[str, Any], tmp_path: Path) -> None:
    from fms.models.hf.utils import infer_model_configuration

    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    inferred = infer_model_configuration(tmp_path, download_weights=False)
    model = fms_model(settings)
    assert model is not None
    assert {"architecture": model.architecture} | model.parameters == {
        name: value for name, value in inferred.items() if name not in ("variant", "model_path")
    }


@pytest.mark.parametrize("name", [name for name in LEFT_OPEN if name not in NEEDLESS])
def test_what_a_configuration_does_not_say_is_left_to_ibm_fms(name: str) -> None:
    assert fms_model(LEFT_OPEN[name]) is None


def test_a_step_needs_no_transformers() -> None:
    code = """
import sys, torch
torch.set_num_threads(1)
from engine.build import build_engine
from engine.config import EngineConfig
from engine.scheduling.plan import Prefill
build_engine(EngineConfig()).executor.logits(Prefill("a", 60, 64, 4, (1,)), (5,) * 60)
print(*sorted({"transformers", "fms.models.hf"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
