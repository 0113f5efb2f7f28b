"""Tests that a model folder with a wrong value or damaged weights is refused with the file and the value."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import checkpoints
from checkpoints import CheckpointError, places, smollm2
from checkpoints.configuration import check_values

WHOLE = "must be a whole number of at least 1"
FINITE = "must be a finite number that fits in float32"
EOS = "eos_token_id must be a token id of at least 0, a list of them, or null"
Change = Callable[[Mapping[str, Any]], str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the built-in model."""
    return Path(shutil.copytree(places.TINY_GRANITE, tmp_path / "copy"))


@pytest.fixture
def change(folder: Path) -> Change:
    """Return a function that changes the copy's config.json, resolves the copy, and returns the error, "" if none.

    The function checks that the error names config.json, and returns what follows the file's path.
    """

    def run(changes: Mapping[str, Any]) -> str:
        path = folder / "config.json"
        config = {**json.loads((places.TINY_GRANITE / "config.json").read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
        found = refusal(folder)
        assert not found or found.startswith(f"{path}: ")
        return found.removeprefix(f"{path}: ")

    return run


def refusal(folder: Path) -> str:
    """Return the error with which the model in ``folder`` is refused, "" if it is accepted."""
    try:
        checkpoints.resolve(str(folder))
    except CheckpointError as error:
        text = str(error)
        assert "\n" not in text
        assert not text.endswith(".")
        assert ". " not in text
        return text
    return ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 0}, f"num_attention_heads {WHOLE}, not 0"),
        ({"hidden_size": "256"}, f'hidden_size {WHOLE}, not "256"'),
        ({"num_hidden_layers": 2.0}, f"num_hidden_layers {WHOLE}, not 2.0"),
        ({"num_hidden_layers": True}, f"num_hidden_layers {WHOLE}, not true"),
        ({"vocab_size": -1}, f"vocab_size {WHOLE}, not -1"),
        ({"vocab_size": 10**12}, "vocab_size must be a whole number of at most 2147483647, not 1000000000000"),
        ({"intermediate_size": None}, f"intermediate_size {WHOLE}, not null"),
        ({"max_position_embeddings": float("inf")}, f"max_position_embeddings {WHOLE}, not Infinity"),
        ({"max_position_embeddings": [1] * 99}, f"max_position_embeddings {WHOLE}, not [{'1, ' * 19}1…"),
        ({"head_dim": 0}, f"head_dim {WHOLE}, not 0"),
        ({"rms_norm_eps": "small"}, f'rms_norm_eps {FINITE}, not "small"'),
        ({"rms_norm_eps": -1}, "rms_norm_eps must be a number of at least 0, not -1"),
        ({"attention_multiplier": float("nan")}, f"attention_multiplier {FINITE}, not NaN"),
        ({"embedding_multiplier": 1e39}, f"embedding_multiplier {FINITE}, not 1e+39"),
        ({"residual_multiplier": 10**400}, f"residual_multiplier {FINITE}, not 1{'0' * 58}…"),
        ({"logits_scaling": 0}, "logits_scaling must be a number above 0, not 0"),
        ({"rope_theta": 0.0}, "rope_theta must be a number above 0, not 0.0"),
        ({"rope_parameters": {"rope_theta": 0}}, "rope_parameters.rope_theta must be a number above 0, not 0"),
        ({"tie_word_embeddings": "yes"}, 'tie_word_embeddings must be true or false, not "yes"'),
        ({"attention_bias": 1}, "attention_bias must be true or false, not 1"),
        (
            {"dtype": "float7"},
            'dtype must be one of bfloat16, double, float, float16, float32, float64, half, not "float7"',
        ),
        ({"eos_token_id": "0"}, f'{EOS}, not "0"'),
        ({"eos_token_id": [0, None]}, f"{EOS}, not [0, null]"),
        ({"eos_token_id": [0, 99999]}, "eos_token_id must be below the model's vocab_size of 2048, not 99999"),
    ],
)
def test_a_wrong_value(change: Change, changes: Mapping[str, Any], message: str) -> None:
    assert change(changes) == message


def test_an_unknown_activation(change: Change) -> None:
    text = change({"hidden_act": "nope"})
    assert text.startswith("hidden_act must be one of gelu, ")
    assert text.endswith(', tanh, not "nope"')


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 3}, "num_attention_heads must be a multiple of num_key_value_heads, but 4"),
        ({"num_attention_heads": 6}, "hidden_size must be a multiple of num_attention_heads, but 256"),
        ({"num_attention_heads": 256}, "the size of a head must be even for the rotary embedding, but it is 1"),
        ({"num_hidden_layers": 1}, "num_hidden_layers is 1, but the weights have 2 layers"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, but the weights have 2 layers"),
        (
            {"vocab_size": 1024},
            "vocab_size and hidden_size do not fit the weights, because model.embed_tokens.weight in",
        ),
        ({"num_key_value_heads": 4}, "hidden_size, num_attention_heads, num_key_value_heads and head_dim do not fit"),
        ({"intermediate_size": 512}, "intermediate_size and hidden_size do not fit the weights"),
    ],
)
def test_values_that_do_not_fit_each_other_or_the_weights(
    change: Change, changes: Mapping[str, Any], message: str
) -> None:
    assert change(changes).startswith(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"eos_token_id": None},
        {"eos_token_id": [0, 7]},
        {"rope_theta": ...},
        {"dtype": ..., "torch_dtype": None},
        {"head_dim": 64},
        {"attention_multiplier": 1, "bos_token_id": "any", "pad_token_id": -1, "initializer_range": "any"},
        {"architectures": ["OtherForCausalLM"], "num_attention_heads": 0, "num_hidden_layers": "many"},
        {"architectures": None, "vocab_size": -1},
        {"a_field_of_tomorrow": {"x": float("nan")}},
    ],
    ids=str,
)
def test_values_that_are_right_or_not_used(change: Change, changes: Mapping[str, Any]) -> None:
    assert change(changes) == ""


def test_eos_tokens_of_generation(folder: Path) -> None:
    path = folder / "generation_config.json"
    path.write_text('{"eos_token_id": [0, 2048]}')
    assert refusal(folder) == f"{path}: eos_token_id must be below the model's vocab_size of 2048, not 2048"
    path.write_text("[]")
    assert refusal(folder) == f"the configuration {str(path)!r} is not a JSON object"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:1000], "it is incomplete, because its 1000 bytes end inside its header"),
        (lambda data: data[:-1], "it has 4198999 bytes where its header says 4199000"),
        (lambda data: data + b"x", "it has 4199001 bytes where its header says 4199000"),
        (lambda data: b"", "it is not a safetensors file"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1", "it is not a safetensors file"),
        (lambda data: data[:8] + b"[" + data[9:], "the header of this safetensors file is damaged"),
        (lambda data: data.replace(b'"shape"', b'"shade"'), "the header of this safetensors file is damaged"),
        (lambda data: data.replace(b'"shape":[', b'"shape":"'), "the header of this safetensors file is damaged"),
        (lambda data: data[:8] + b"\xff" + data[9:], "the header of this safetensors file is damaged"),
    ],
)
def test_damaged_weights(folder: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert refusal(folder) == f"{path}: cannot be read: {message}"


def test_only_the_shards_of_the_index_are_checked(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.safetensors"}}')
    (folder / "other.safetensors").write_bytes(b"")
    assert refusal(folder) == ""


def test_the_configuration_written_for_smollm2_is_right(tmp_path: Path) -> None:
    check_values(tmp_path, smollm2.CONFIG)
