"""Masks of structured outputs for the reference, by llguidance's interface for single matchers.

A mask depends on nothing but the tokens of its own request: each is computed from the start of the answer.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from checkpoints import Checkpoint
from harness.references.values import ReferenceMissingError, Wanted
from harness.types import Structure


class StructureError(ReferenceMissingError):
    """The reference cannot follow a structure; the message is one sentence."""


def constrained(
    checkpoint: Checkpoint, logits: Any, wanted: Sequence[Wanted], generated: Sequence[Sequence[int]]
) -> Any:
    """Return ``logits`` (float32, ``[rows, vocabulary]``), impossible tokens at -inf; ``generated`` goes by row.

    Raises StructureError.
    """
    rows = [row for row, each in enumerate(wanted) if each.structure is not None]
    if not rows:
        return logits
    changed = logits.clone()
    for row in rows:
        changed[row] = masked(checkpoint, changed[row], wanted[row].structure, list(generated[row]))
    return changed


def masked(checkpoint: Checkpoint, row: Any, structure: Structure | None, generated: list[int]) -> Any:
    """Return one row of logits (``[vocabulary]``) after ``generated`` tokens. Raises StructureError."""
    import torch

    vocabulary = _vocabulary(checkpoint)
    if structure is None or set(generated) & set(vocabulary.eos_tokens):
        return row
    matcher = _compiled(checkpoint, structure).deep_copy()
    if not matcher.consume_tokens(generated):
        raise StructureError(f"the tokens {generated} do not fit {structure}: {matcher.get_error()}")
    # One byte for each token: 0 if it is impossible.
    possible = torch.frombuffer(bytearray(matcher.compute_logit_bias()), dtype=torch.uint8)[: row.shape[0]] > 0
    return torch.where(torch.nn.functional.pad(possible, (0, row.shape[0] - len(possible))), row, -torch.inf)


@lru_cache(maxsize=2)
def _vocabulary(checkpoint: Checkpoint) -> Any:
    try:
        from llguidance.hf import from_tokenizer
    except ImportError as error:
        remedy = "pip install 'spyre-cb[structured]'"
        raise StructureError(f"reference outputs of structured outputs need llguidance: {remedy}") from error
    from transformers import AutoTokenizer, GenerationConfig

    end = GenerationConfig.from_pretrained(checkpoint.path).eos_token_id
    return from_tokenizer(AutoTokenizer.from_pretrained(checkpoint.path), eos_token=end)


@lru_cache(maxsize=64)
def _compiled(checkpoint: Checkpoint, structure: Structure) -> Any:
    from llguidance import LLMatcher, grammar_from

    if structure.kind == "json_object":
        text = grammar_from("json_schema", '{"type": "object"}')
    else:
        text = grammar_from(structure.kind, structure.text)
    matcher = LLMatcher(_vocabulary(checkpoint), text, log_level=0)
    if matcher.is_error():
        raise StructureError(f"the structure {structure} cannot be compiled: {matcher.get_error()}")
    return matcher
