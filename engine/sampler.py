"""Logits to tokens: greedy, or temperature / top-k / top-p / min-p with a random source a request."""

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.request import SamplingParams, TokenOutput
from engine.sequence import SequenceState

SMALLEST_TEMPERATURE = 1e-20
"""Below it every draw is greedy anyway, and logits divided by it would no longer fit a float32."""


def sample(logits: Tensor, sequences: Sequence[SequenceState], seed: int) -> list[TokenOutput]:
    """One token for each row of ``logits`` (``[rows, vocabulary]``), each by its own parameters.

    A golden token stands in place of one that would be sampled. ``seed`` is for requests that bring none: mixed with
    their id it makes a run repeatable. What a request draws depends on nothing but its own logits and its own random
    source.
    """
    logits = logits.float()
    allowed = _without_forbidden(logits, sequences)
    chosen = allowed.argmax(dim=-1)
    for row, sequence in enumerate(sequences):
        if sequence.golden_token_id is not None:
            chosen[row] = sequence.golden_token_id
        elif not sequence.params.greedy:
            chosen[row] = _draw(allowed[row], sequence, seed)
    return _with_logprobs(logits, chosen, [sequence.params.logprobs for sequence in sequences])


def _without_forbidden(logits: Tensor, sequences: Sequence[SequenceState]) -> Tensor:
    forbidden = [sequence.forbidden_token_ids for sequence in sequences]
    if not any(forbidden):
        return logits
    allowed = logits.clone()
    for row, token_ids in enumerate(forbidden):
        allowed[row, [token for token in token_ids if 0 <= token < logits.shape[1]]] = -torch.inf
    return allowed


def _draw(logits: Tensor, sequence: SequenceState, seed: int) -> Tensor:
    """A token id drawn from ``logits`` (``[vocabulary]``): the exponential race, one draw a candidate."""
    probabilities = filtered_probabilities(logits, sequence.params)
    generator = _generator(sequence, seed)
    race = torch.empty_like(probabilities).exponential_(generator=generator)
    return (probabilities / race).argmax()


def filtered_probabilities(logits: Tensor, params: SamplingParams) -> Tensor:
    """Probabilities (``[vocabulary]``, sum 1) after temperature, then top-k, then top-p, then min-p."""
    logits = logits / max(params.temperature, SMALLEST_TEMPERATURE)
    if 0 < params.top_k < logits.numel():
        smallest = logits.topk(params.top_k).values[-1]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if params.top_p < 1:
        ordered, order = logits.softmax(dim=-1).sort(descending=True, stable=True)
        beyond = ordered.cumsum(dim=-1) - ordered >= params.top_p
        beyond[0] = False  # a top_p too small for a float32 is 0 there
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(0, order, beyond), -torch.inf)
    probabilities = logits.softmax(dim=-1)
    if params.min_p > 0:
        probabilities = probabilities.masked_fill(probabilities < params.min_p * probabilities.max(), 0)
        probabilities = probabilities / probabilities.sum()
    return probabilities


def _generator(sequence: SequenceState, seed: int) -> torch.Generator:
    if not isinstance(sequence.generator, torch.Generator):
        own = sequence.params.seed
        if own is None:
            own = hash_text(f"{seed}/{sequence.request.request_id}")
        sequence.generator = torch.Generator().manual_seed(own)
    return sequence.generator


def hash_text(text: str) -> int:
    """A 63-bit number from a text, the same in every process (Python's own ``hash`` is salted)."""
    value = 0
    for byte in text.encode():
        value = (value * 1099511628211 ^ byte) & 0x7FFF_FFFF_FFFF_FFFF
    return value


def _with_logprobs(logits: Tensor, chosen: Tensor, wanted: Sequence[int | None]) -> list[TokenOutput]:
    token_ids: list[int] = chosen.tolist()
    most = max((count for count in wanted if count is not None), default=None)
    if most is None:
        return [TokenOutput(token_id) for token_id in token_ids]
    logprobs = logits.log_softmax(dim=-1)
    own = logprobs.gather(1, chosen[:, None])
    ranks = ((logprobs > own).sum(dim=-1) + 1).tolist()
    values, ids = (tensor.tolist() for tensor in logprobs.topk(most, dim=-1)) if most else ([], [])
    outputs = []
    for row, (token_id, count) in enumerate(zip(token_ids, wanted, strict=True)):
        if count is None:
            outputs.append(TokenOutput(token_id))
            continue
        top = tuple(zip(ids[row][:count], values[row][:count], strict=True)) if count else ()
        outputs.append(TokenOutput(token_id, own[row].item(), ranks[row], top))
    return outputs
