"""Masks of structured outputs: what a request's grammar forbids now is impossible in its row of logits.

As in vLLM (``sample_tokens`` of ``vllm.v1.worker.gpu_model_runner``), the mask comes before everything else that
changes logits, and logprobs are taken from the masked logits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.sequence import SequenceState


def constrained(logits: Tensor, sequences: Sequence[SequenceState]) -> Tensor:
    """Return ``logits`` (float32, ``[rows, vocabulary]``) with each row masked by its own request's grammar.

    Returns ``logits`` themselves where no request has a grammar; they are never written to.
    """
    rows = [row for row, sequence in enumerate(sequences) if sequence.grammar is not None]
    if not rows:
        return logits
    logits = logits.clone()
    for row in rows:
        _mask(logits[row], sequences[row])
    return logits


def _mask(logits: Tensor, sequence: SequenceState) -> None:
    """Mask one row (``[vocabulary]``) in place; logits beyond the tokenizer's vocabulary are forbidden, too."""
    assert sequence.grammar is not None
    allowed = sequence.grammar.allowed()
    if allowed is None:
        return
    forbidden = torch.ones_like(logits, dtype=torch.bool)
    forbidden[: len(allowed)] = torch.from_numpy(~allowed)
    logits.masked_fill_(forbidden, -torch.inf)
