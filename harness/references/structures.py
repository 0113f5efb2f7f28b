"""Apply constraints (JSON schema, regular expression, …) to logits: tokens that are not allowed get the logit -inf.

``llguidance`` determines which tokens are allowed. At each position it processes the answer from its first token on.
Requests are processed one at a time.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from checkpoints import Checkpoint, load_tokenizer
from harness.references.values import ReferenceMissingError, Wanted
from harness.types import Structure


class StructureError(ReferenceMissingError):
    """The reference model can't apply a constraint, for example because ``llguidance`` is not installed.

    ``structure`` is the constraint if it can't be compiled, else None. The message then does not repeat it.
    """

    def __init__(self, what: str, structure: Structure | None = None) -> None:
        super().__init__(what)
        self.structure = structure


def constrained(
    checkpoint: Checkpoint, logits: Any, wanted: Sequence[Wanted], generated: Sequence[Sequence[int]]
) -> Any:
    """Return ``logits`` with -inf for each token that the constraint of its row does not allow next.

    ``logits`` are float32, ``[rows, vocabulary]``. ``wanted`` has the request of each row with its constraint, and
    ``generated`` the tokens generated so far in each row. Raises StructureError if ``llguidance`` is missing, can't
    compile a constraint, or rejects the generated tokens.
    """
    rows = [row for row, each in enumerate(wanted) if each.structure is not None]
    if not rows:
        return logits
    changed = logits.clone()
    for row in rows:
        changed[row] = masked(checkpoint, changed[row], wanted[row].structure, list(generated[row]))
    return changed


def masked(checkpoint: Checkpoint, row: Any, structure: Structure | None, generated: list[int]) -> Any:
    """Return one row of logits (``[vocabulary]``) with -inf for tokens that ``structure`` does not allow next.

    ``generated`` are the tokens of the answer so far. If ``structure`` is None, or if ``generated`` has an
    end-of-sequence token, every token is allowed, and ``row`` is returned unchanged. Raises
    StructureError if ``llguidance`` is missing, can't compile the constraint, or rejects the generated tokens.
    """
    import torch

    vocabulary = _vocabulary(checkpoint)
    if structure is None or set(generated) & set(vocabulary.eos_tokens):
        return row
    matcher = _compiled(checkpoint, structure).deep_copy()
    if not matcher.consume_tokens(generated):
        raise StructureError(f"the tokens {generated} do not fit {structure}: {_reason(matcher.get_error())}")
    # The matcher returns one byte for each token: 0 if the token is not allowed.
    possible = torch.frombuffer(bytearray(matcher.compute_logit_bias()), dtype=torch.uint8)[: row.shape[0]] > 0
    return torch.where(torch.nn.functional.pad(possible, (0, row.shape[0] - len(possible))), row, -torch.inf)


@lru_cache(maxsize=2)
def _vocabulary(checkpoint: Checkpoint) -> Any:
    try:
        from llguidance.hf import from_tokenizer
    except ImportError as error:
        remedy = "pip install 'spyre-cb[structured]'"
        raise StructureError(
            f"reference outputs of requests with structured_outputs need llguidance: {remedy}"
        ) from error
    from transformers import GenerationConfig

    end = GenerationConfig.from_pretrained(checkpoint.path).eos_token_id
    return from_tokenizer(load_tokenizer(checkpoint.path), eos_token=end)


@lru_cache(maxsize=64)
def _compiled(checkpoint: Checkpoint, structure: Structure) -> Any:
    from llguidance import LLMatcher, grammar_from

    try:
        if structure.kind == "json_object":
            text = grammar_from("json_schema", '{"type": "object"}')
        else:
            text = grammar_from(structure.kind, structure.text)
        matcher = LLMatcher(_vocabulary(checkpoint), text, log_level=0)
    except (ValueError, RecursionError) as error:
        raise _uncompiled(structure, str(error)) from error
    if matcher.is_error():
        raise _uncompiled(structure, matcher.get_error())
    return matcher


def _uncompiled(structure: Structure, message: str) -> StructureError:
    return StructureError(f"llguidance can't compile this {structure.kind}: {_reason(message)}", structure)


def _reason(message: str) -> str:
    """Return the reason in a message of llguidance, on one line.

    The first line says what is wrong. The next lines are a picture of the place and, for a regular expression, the
    reason after ``error:``.
    """
    lines = message.splitlines() or [""]
    found = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return " ".join(lines[:1] + found).strip()
