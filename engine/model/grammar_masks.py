"""Masks of structured outputs: set the logits of the tokens that a request's grammar forbids to minus infinity.

As in vLLM (``sample_tokens`` of ``vllm.v1.worker.gpu_model_runner``), the mask is applied before everything else that
changes logits, and logprobs are computed from the masked logits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.sequence import SequenceState


def constrained(logits: Tensor, sequences: Sequence[SequenceState]) -> Tensor:
    """Return ``logits`` (float32, ``[rows, vocabulary]``) with each row masked by its own request's grammar.

    ``logits`` is not modified. If no request has a grammar, the same tensor is returned.
    """
    rows = [row for row, sequence in enumerate(sequences) if sequence.grammar is not None]
    if not rows:
        return logits
    logits = logits.clone()
    for row in rows:
        _mask(logits[row], sequences[row])
    return logits


def _mask(logits: Tensor, sequence: SequenceState) -> None:
    """Mask one row (``[vocabulary]``) in place. Logits beyond the tokenizer's vocabulary are masked, too."""
    assert sequence.grammar is not None
    allowed = sequence.grammar.allowed()
    if allowed is None:
        return
    forbidden = torch.ones_like(logits, dtype=torch.bool)
    forbidden[: len(allowed)] = torch.from_numpy(~allowed)
    logits.masked_fill_(forbidden, -torch.inf)
