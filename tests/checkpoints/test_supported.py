"""Tests that checkpoints are refused if the reference engine would compute wrong outputs for them, and only then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoints import Checkpoint, CheckpointError, check_supported, smollm2

GRANITE = {
    "architectures": ["GraniteForCausalLM"],
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "hidden_act": "silu",
}
LLAMA = {**GRANITE, "architectures": ["LlamaForCausalLM"]}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.fixture
def check(tmp_path: Path) -> Callable[[Any], str]:
    """Return a function that checks a configuration. It returns "" if the engine supports the model, else an error."""

    def run(config: Any) -> str:
        (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        try:
            check_supported(Checkpoint(name="it", label="it", path=tmp_path, revision=None, digest=""))
        except CheckpointError as error:
            text = str(error)
            assert text
            assert "\n" not in text
            assert ". " not in text
            assert not text.endswith(".")
            return text
        return ""

    return run


@pytest.mark.parametrize("config", [GRANITE, LLAMA], ids=["granite", "llama"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"head_dim": 16},
        {"rope_theta": 5000.0},
        {"rope_scaling": None},
        {"rope_scaling": {}},
        {"rope_scaling": {"rope_type": "default"}},
        {"rope_scaling": {"type": "default"}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
        {"rope_parameters": {"rope_theta": 1e4}},
        {"rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, "rope_scaling": None},
        {"quantization_config": None},
        {"hidden_act": "swish"},
    ],
    ids=json.dumps,
)
def test_supported(check: Callable[[Any], str], config: dict[str, Any], more: dict[str, Any]) -> None:
    assert check({**config, **more}) == ""


def test_differences_between_the_two_architectures(check: Callable[[Any], str]) -> None:
    assert check({**LLAMA, "head_dim": None}) == ""
    assert "head_dim is null" in check({**GRANITE, "head_dim": None})
    assert check({**GRANITE, "hidden_act": "gelu"}) == ""
    assert "hidden_act is 'gelu'" in check({**LLAMA, "hidden_act": "gelu"})


def test_the_configuration_written_for_smollm2_is_supported(check: Callable[[Any], str]) -> None:
    assert check(smollm2.CONFIG) == ""


@pytest.mark.parametrize(
    "names",
    [["MistralForCausalLM"], ["GraniteMoeHybridForCausalLM", "GraniteForCausalLM"], [], None, "GraniteForCausalLM"],
)
def test_other_architectures(check: Callable[[Any], str], names: object) -> None:
    text = check({**GRANITE, "architectures": names})
    assert "GraniteForCausalLM and LlamaForCausalLM" in text
    assert text.startswith("'it' cannot run on the reference engine")


def test_no_architectures(check: Callable[[Any], str]) -> None:
    assert "architecture is None" in check({"model_type": "granite"})


@pytest.mark.parametrize("size", [8, 32])
def test_head_dim_that_is_not_the_quotient(check: Callable[[Any], str], size: int) -> None:
    text = check({**GRANITE, "head_dim": size})
    assert f"head_dim is {size} but hidden_size / num_attention_heads is 16" in text
    assert "without an error" in text
    assert f"head_dim is {size}" in check({**LLAMA, "head_dim": size})


def test_head_dim_with_a_quotient_that_is_not_whole(check: Callable[[Any], str]) -> None:
    assert "is 12.8" in check({**GRANITE, "num_attention_heads": 5, "head_dim": 12})


@pytest.mark.parametrize("more", [{"num_attention_heads": 0}, {"hidden_size": None}, {"head_dim": "16"}])
def test_head_dim_that_cannot_be_compared(check: Callable[[Any], str], more: dict[str, object]) -> None:
    assert "cannot be compared" in check({**GRANITE, "head_dim": 16, **more})


@pytest.mark.parametrize("config", [GRANITE, LLAMA], ids=["granite", "llama"])
@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"rope_scaling": LLAMA3}, "llama3"),
        ({"rope_parameters": {**LLAMA3, "rope_theta": 1e4}}, "llama3"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ({"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"rope_type": "linear"}}, "linear"),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear"}}}, "linear"),
    ],
)
def test_rotary_scaling(check: Callable[[Any], str], config: dict[str, Any], more: dict[str, Any], kind: str) -> None:
    text = check({**config, **more})
    assert f"has {kind!r} rotary scaling" in text
    assert "ignores" in text


def test_rotary_parameters_of_the_wrong_kind(check: Callable[[Any], str]) -> None:
    assert "a JSON object is expected" in check({**GRANITE, "rope_parameters": "default"})


@pytest.mark.parametrize("name", ["hidden_size", "num_attention_heads", "num_hidden_layers"])
def test_a_field_that_the_engine_needs_is_missing(check: Callable[[Any], str], name: str) -> None:
    config = {key: value for key, value in GRANITE.items() if key != name}
    assert check(config).endswith(f"its config.json has no {name}")


def test_quantised_weights(check: Callable[[Any], str]) -> None:
    assert "quantization_config" in check({**GRANITE, "quantization_config": {"quant_method": "gptq"}})


def test_configurations_that_cannot_be_read(check: Callable[[Any], str], tmp_path: Path) -> None:
    assert "cannot read the configuration" in check("{")
    assert "cannot read the configuration" in check("[" * 100_000)
    assert "not a JSON object" in check("[]")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe")
    checkpoint = Checkpoint(name="it", label="it", path=tmp_path, revision=None, digest="")
    with pytest.raises(CheckpointError, match="cannot read"):
        check_supported(checkpoint)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match="cannot read"):
        check_supported(checkpoint)
