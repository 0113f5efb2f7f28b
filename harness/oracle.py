"""What is right: Hugging Face transformers on CPU, float32, greedy, one prompt at a time.

No batching, no padding, no paging here on purpose: nothing that could be wrong in the same way.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from checkpoints import Checkpoint


@dataclass(frozen=True)
class Reference:
    """Greedy tokens and, for each, its logprob (natural logarithm, raw logits) and the margin.

    ``margins`` is the logprob of the best token less that of the second best.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    margins: tuple[float, ...]


def reference(
    checkpoint: Checkpoint,
    prompt_token_ids: tuple[int, ...],
    max_tokens: int,
    forbidden: tuple[int, ...] = (),
    forbidden_until: int = 0,
) -> Reference:
    """``max_tokens`` greedy tokens, past any end-of-sequence token.

    ``forbidden`` tokens are not chosen among the first ``forbidden_until``; logprobs are of the raw logits.
    """
    key = (checkpoint, prompt_token_ids, forbidden if forbidden_until else (), forbidden_until)
    known = _computed.get(key)
    if known is None or len(known.token_ids) < max_tokens:
        known = _computed[key] = _compute(checkpoint, prompt_token_ids, max_tokens, forbidden, forbidden_until)
    return Reference(known.token_ids[:max_tokens], known.logprobs[:max_tokens], known.margins[:max_tokens])


_computed: dict[Any, Reference] = {}


@lru_cache(maxsize=2)
def _model(checkpoint: Checkpoint) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()

    return AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32).eval()


def _compute(
    checkpoint: Checkpoint, prompt: tuple[int, ...], max_tokens: int, forbidden: tuple[int, ...], until: int
) -> Reference:
    import torch

    model, past = _model(checkpoint), None
    ids = torch.tensor([prompt])
    chosen: list[tuple[int, float, float]] = []
    with torch.inference_mode():
        while len(chosen) < max_tokens:
            out = model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
            past, logprobs = out.past_key_values, out.logits[0, -1].float().log_softmax(-1)
            candidates = logprobs.clone()
            if len(chosen) < until:
                candidates[[token for token in forbidden if token < len(candidates)]] = -torch.inf
            best = candidates.topk(2)
            token = int(best.indices[0])
            chosen.append((token, logprobs[token].item(), (best.values[0] - best.values[1]).item()))
            ids = torch.tensor([[token]])
    token_ids, own, margins = zip(*chosen, strict=True)
    return Reference(token_ids, own, margins)
