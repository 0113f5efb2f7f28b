"""Read the parameters of an ibm-fms model from a checkpoint's config.json. This file does not import torch.

ibm-fms can infer the parameters itself (architecture ``hf_pretrained``), but then it imports most of transformers,
which takes two seconds per process. So the parameters are read here, and passed to ``get_model`` of ibm-fms as
arguments. Both ways give the same parameters (tests/engine/model/test_fms_parameters.py). If a config.json lacks a
parameter for which transformers has a default, ibm-fms infers the parameters.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

NUMBERS = {
    "num_key_value_heads": "kvheads",
    "rms_norm_eps": "norm_eps",
    "hidden_size": "emb_dim",
    "max_position_embeddings": "max_expected_seq_len",
    "vocab_size": "src_vocab_size",
    "num_attention_heads": "nheads",
    "num_hidden_layers": "nlayers",
}
GRANITE_NUMBERS = {
    name: name for name in ("residual_multiplier", "attention_multiplier", "logits_scaling", "embedding_multiplier")
}


class FmsModel(NamedTuple):
    """The name of an architecture in ibm-fms, and the keyword arguments of its model."""

    architecture: str
    parameters: dict[str, Any]


def fms_model(settings: Mapping[str, Any]) -> FmsModel | None:
    """Return the model that ``settings``, the content of a config.json, describes.

    Return None if the architecture is neither Granite nor Llama, or if a parameter is missing.
    """
    granite = settings.get("architectures") == ["GraniteForCausalLM"]
    llama = settings.get("architectures") == ["LlamaForCausalLM"]
    if not granite and not llama:
        return None
    theta, inner = _rope_theta(settings), settings.get("intermediate_size")
    tied = settings.get("tie_word_embeddings")
    names = NUMBERS | GRANITE_NUMBERS if granite else NUMBERS
    found = {ours: settings.get(name) for name, ours in names.items()}
    if not all(map(_is_number, (theta, inner, *found.values()))) or not isinstance(tied, bool):
        return None
    assert isinstance(inner, int | float)
    parameters = found | {
        "attn_bias": settings.get("attention_bias", False),
        "mlp_bias": settings.get("mlp_bias", False),
        "multiple_of": 1,
        "rope_theta": theta,
        "hidden_grow_factor": inner / settings["hidden_size"],
        "tie_heads": tied,
    }
    if granite:
        parameters["head_dim"] = settings.get("head_dim", settings["hidden_size"] // settings["num_attention_heads"])
        parameters["activation_fn"] = settings.get("hidden_act")
        if not _is_number(parameters["head_dim"]) or not isinstance(parameters["activation_fn"], str):
            return None
    return FmsModel("granite" if granite else "llama", parameters)


def _rope_theta(settings: Mapping[str, Any]) -> object:
    """Return the base of the rotary embedding (``rope_theta``). ``settings`` is the content of a model's config.json.

    Return None if it has two different bases, or rotary settings besides the base, such as scaling.
    """
    nested, scaling = settings.get("rope_parameters"), settings.get("rope_scaling")
    if scaling is not None:
        return None
    if nested is None:
        return settings.get("rope_theta")
    if not isinstance(nested, Mapping) or nested.keys() - {"rope_theta", "rope_type"}:
        return None
    theta = nested.get("rope_theta")
    return theta if settings.get("rope_theta", theta) == theta else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
