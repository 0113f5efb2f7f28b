"""Compute reference outputs with Hugging Face transformers: on CPU, in float32, with greedy decoding.

Prompts are computed in batches, with left padding by ``transformers``. Tests check that a batch gives the same tokens
as each prompt alone, and the same logprobs within 1e-4. No code of the engine is used.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from checkpoints import Checkpoint, CheckpointError
from checkpoints.errors import one_line
from harness.references.processors import processed
from harness.references.structures import constrained, masked
from harness.references.values import Reference, ReferenceToken, Wanted
from harness.types import Structure

MAX_ROWS = 16
MAX_CELLS = 16_384
"""Maximum number of prompt tokens in one batch, including padding. It limits the memory that attention needs."""

Progress = Callable[[int], None]
"""Type of a function that is called with the number of continuations that were computed since its last call."""


def continuations(
    checkpoint: Checkpoint, wanted: Sequence[Wanted], progress: Progress | None = None
) -> list[Reference]:
    """Return the greedy continuation of the prompt of each entry of ``wanted``, in the same order.

    If an entry has tokens in ``given``, these are the continuation, and only their logprobs are computed. Raises
    CheckpointError if transformers cannot load the model, or if the model computes a logit that is not a number.
    """
    found = {i: scored(checkpoint, w.prompt_token_ids, w.given, w.top) for i, w in enumerate(wanted) if w.given}
    if progress and found:
        progress(len(found))
    for batch in _batches(wanted):
        computed = _greedy(checkpoint, [wanted[i] for i in batch])
        found.update(zip(batch, computed, strict=True))
        if progress:
            progress(len(batch))
    return [found[i] for i in range(len(wanted))]


def scored(
    checkpoint: Checkpoint,
    prompt: tuple[int, ...],
    token_ids: tuple[int, ...],
    top: int,
    structure: Structure | None = None,
) -> Reference:
    """Run the model on a prompt followed by ``token_ids``, and return these tokens with their logprobs.

    The result also has the ``top`` most likely tokens at each position. ``structure`` is the constraint that
    ``token_ids`` must satisfy, None if there is none. Raises StructureError if they don't satisfy it.
    """
    import torch

    with torch.inference_mode():
        ids = torch.tensor([prompt + token_ids[:-1]])
        out = _model(checkpoint)(input_ids=ids, logits_to_keep=len(token_ids))
        logits = _checked(checkpoint, out.logits[0].float())
        rows = [masked(checkpoint, row, structure, list(token_ids[:i])) for i, row in enumerate(logits)]
        return Reference(tuple(_tokens(torch.stack(rows).log_softmax(-1), list(token_ids), top)))


def raw_logits(checkpoint: Checkpoint, prompt: tuple[int, ...], rows: Sequence[tuple[int, ...]]) -> Any:
    """Run the model on a prompt with each of several continuations of the same length (``rows``).

    Return, for each token of each continuation, the logits from which the token is chosen, that is, those after the
    tokens before it. The result is float32 ``[rows, tokens, vocabulary]``.
    """
    import torch

    found = []
    with torch.inference_mode():
        for first in range(0, len(rows), MAX_ROWS):
            ids = torch.tensor([list(prompt + row[:-1]) for row in rows[first : first + MAX_ROWS]])
            out = _model(checkpoint)(input_ids=ids, logits_to_keep=len(rows[0]))
            found.append(_checked(checkpoint, out.logits.float()))
    return torch.cat(found)


def _batches(wanted: Sequence[Wanted]) -> Iterator[list[int]]:
    """Divide the entries of ``wanted`` without ``given`` tokens into batches. Yield the positions in each batch.

    The entries of a batch have similar prompt lengths and ``max_tokens``, so that there is little padding, and few
    tokens are computed that are not needed.
    """
    free = [i for i, each in enumerate(wanted) if not each.given]
    order = sorted(free, key=lambda i: (wanted[i].max_tokens, len(wanted[i].prompt_token_ids)))
    batch: list[int] = []
    for i in order:
        longest = max(len(wanted[j].prompt_token_ids) for j in [*batch, i])
        if batch and (len(batch) == MAX_ROWS or longest * (len(batch) + 1) > MAX_CELLS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@lru_cache(maxsize=2)
def _model(checkpoint: Checkpoint) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()

    try:
        return AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32).eval()
    except Exception as error:  # transformers raises whatever its parsers and models raise
        reason = f"{type(error).__name__}: {one_line(error)[:200]}"
        raise CheckpointError(f"{checkpoint.path}: transformers cannot load this model: {reason}") from error


def _checked(checkpoint: Checkpoint, logits: Any) -> Any:
    """Return ``logits`` if they are finite; otherwise no token is the most likely one. Raises CheckpointError."""
    if not logits.isfinite().all():
        raise CheckpointError(
            f"{checkpoint.path}: this model has no reference outputs, because it computes logits that are infinite or"
            " not a number: check its weights and its config.json"
        )
    return logits


def _greedy(checkpoint: Checkpoint, wanted: Sequence[Wanted]) -> list[Reference]:
    import torch

    width = max(len(each.prompt_token_ids) for each in wanted)
    padding = [width - len(each.prompt_token_ids) for each in wanted]
    ids = torch.tensor([[0] * pad + list(each.prompt_token_ids) for pad, each in zip(padding, wanted, strict=True)])
    left = torch.tensor(padding)[:, None]
    top = max(each.top for each in wanted)
    chosen: list[list[ReferenceToken]] = [[] for _ in wanted]
    model, past, length = _model(checkpoint), None, width
    with torch.inference_mode():
        for _ in range(max(each.max_tokens for each in wanted)):
            columns = torch.arange(length)
            out = model(
                input_ids=ids,
                position_ids=(columns[-ids.shape[1] :] - left).clamp(min=0),
                # The mask hides padding, so it is not needed without padding.
                attention_mask=(columns >= left).long() if any(padding) else None,
                past_key_values=past,
                use_cache=True,
                logits_to_keep=1,
            )
            past, logits = out.past_key_values, _checked(checkpoint, out.logits[:, -1].float())
            generated = [[token.token_id for token in row] for row in chosen]
            logits = constrained(checkpoint, logits, wanted, generated)
            logprobs = logits.log_softmax(-1)
            best = processed(logits, wanted, generated).argmax(-1)
            for row, token in zip(chosen, _tokens(logprobs, best.tolist(), top), strict=True):
                row.append(token)
            ids, length = best[:, None], length + 1
    return [_as_wanted(tokens, each) for tokens, each in zip(chosen, wanted, strict=True)]


def _tokens(logprobs: Any, token_ids: list[int], top: int) -> Iterator[ReferenceToken]:
    """Yield each token of ``token_ids`` with its logprob and the ``top`` most likely tokens at its position.

    ``logprobs`` are ``[positions, vocabulary]``. They are -inf for tokens that a constraint excludes. Such tokens are
    left out of the most likely tokens.
    """
    best = logprobs.topk(min(top, logprobs.shape[1]))
    ids, values = best.indices.tolist(), best.values.tolist()
    for row, token_id in enumerate(token_ids):
        pairs = tuple(pair for pair in zip(ids[row], values[row], strict=True) if pair[1] > -math.inf)
        yield ReferenceToken(token_id, logprobs[row, token_id].item(), pairs)


def _as_wanted(tokens: Sequence[ReferenceToken], wanted: Wanted) -> Reference:
    """Return the first tokens of ``tokens`` as a reference, with as many tokens and top tokens as ``wanted`` asks for.

    ``tokens`` may have more tokens and top tokens, because another prompt of the same batch needs more.
    """
    return Reference(tuple(token._replace(top=token.top[: wanted.top]) for token in tokens[: wanted.max_tokens]))
