"""Sample tokens from logits: greedily, or with temperature, top-k, top-p, min-p and a random generator per request."""

from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

from engine.model.grammar_masks import constrained
from engine.model.logits import processed
from engine.request import SamplingParams, TokenOutput
from engine.sequence import SequenceState

_SEEDS_TORCH_TELLS_APART = range(2**32)
"""The seeds that torch's generator distinguishes: it uses only the last 32 bits of a seed."""

SMALLEST_TEMPERATURE = 1e-20
"""Lower temperatures are replaced by this one: logits divided by them would overflow float32.

At this temperature the most likely token is always drawn.
"""


def sample(logits: Tensor, sequences: Sequence[SequenceState], seed: int) -> list[TokenOutput]:
    """Return one token for each row of ``logits`` (``[rows, vocabulary]``), sampled with the parameters of its request.

    If the request has golden tokens (``SamplingParams.golden_token_ids``), the golden token of the current position
    replaces the sampled token. ``seed`` and the request's id seed the generators of requests that have no seed, so that
    a run is repeatable. The tokens of a request depend only on its logits and its generator.
    """
    logits = constrained(logits.float(), sequences)
    allowed = processed(logits, sequences)
    token_ids: list[int] = allowed.numpy().argmax(axis=-1).tolist()  # torch's argmax takes ten times as long
    golden = [sequence.golden_token_id for sequence in sequences]
    drawn = [row for row, s in enumerate(sequences) if golden[row] is None and not s.params.greedy]
    if drawn:
        for row, token_id in zip(drawn, _draw(allowed[drawn], [sequences[row] for row in drawn], seed), strict=True):
            token_ids[row] = token_id
    chosen = [token_id if led is None else led for token_id, led in zip(token_ids, golden, strict=True)]
    return with_logprobs(logits, chosen, [sequence.params.logprobs for sequence in sequences])


def _draw(logits: Tensor, sequences: Sequence[SequenceState], seed: int) -> list[int]:
    """Return a token id for each row (``[rows, vocabulary]``), drawn from the filtered probabilities.

    An exponential random number is drawn for each token. The token with the largest ratio of probability to random
    number is chosen.
    """
    probabilities = filtered_probabilities(logits, [sequence.params for sequence in sequences])
    race = torch.empty_like(probabilities)
    for own, sequence in zip(race, sequences, strict=True):
        own.exponential_(generator=_generator(sequence, seed))
    token_ids: list[int] = (probabilities / race).argmax(dim=-1).tolist()
    return token_ids


def filtered_probabilities(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Return probabilities ``[rows, vocabulary]`` after temperature, min-p, top-k and top-p, in vLLM's order.

    Each row sums to 1 and has its own parameters. ``logits`` is not modified.
    """
    logits = logits / torch.tensor([[max(each.temperature, SMALLEST_TEMPERATURE)] for each in params])
    vocabulary = logits.shape[1]
    rows = [row for row, each in enumerate(params) if each.min_p > 0]
    if rows:
        some = logits[rows].softmax(dim=-1)
        smallest = some.amax(dim=-1, keepdim=True) * torch.tensor([[params[row].min_p] for row in rows])
        logits[rows] = logits[rows].masked_fill(some < smallest, -torch.inf)
    rows = [row for row, each in enumerate(params) if 0 < each.top_k < vocabulary]
    if rows:
        places = torch.tensor([[params[row].top_k - 1] for row in rows])
        largest = logits[rows].topk(int(places.max()) + 1).values
        logits[rows] = logits[rows].masked_fill(logits[rows] < largest.gather(1, places), -torch.inf)
    rows = [row for row, each in enumerate(params) if each.top_p < 1]
    if rows:
        logits[rows] = _nucleus(logits[rows], torch.tensor([[params[row].top_p] for row in rows]))
    return logits.softmax(dim=-1)


def _nucleus(logits: Tensor, top_p: Tensor) -> Tensor:
    """Return ``logits`` with -inf for the tokens that top-p excludes.

    ``logits`` is ``[rows, vocabulary]``, ``top_p`` is ``[rows, 1]``.
    """
    ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    beyond = ordered.cumsum(dim=-1) - ordered >= top_p
    beyond[:, 0] = False  # keep the most likely token also if top_p is so small that it is 0 in float32
    return logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)


def _generator(sequence: SequenceState, seed: int) -> torch.Generator:
    if not isinstance(sequence.generator, torch.Generator):
        own = sequence.params.seed
        if own is None:
            own = hash_text(f"{seed}/{sequence.request.request_id}")
        elif own not in _SEEDS_TORCH_TELLS_APART:
            own = hash_text(str(own))
        sequence.generator = torch.Generator().manual_seed(own)
    return sequence.generator


def hash_text(text: str) -> int:
    """Return a 63-bit hash of ``text`` that is the same in every process, unlike Python's ``hash``."""
    value = 0
    for byte in text.encode():
        value = (value * 1099511628211 ^ byte) & 0x7FFF_FFFF_FFFF_FFFF
    return value


def with_logprobs(logits: Tensor, token_ids: Sequence[int], wanted: Sequence[int | None]) -> list[TokenOutput]:
    """Return the token in ``token_ids`` for each row of ``logits`` (``[rows, vocabulary]``), with logprobs.

    ``wanted`` has ``SamplingParams.logprobs`` for each row: the number of most likely tokens whose logprobs are
    returned in addition to the logprob of the token itself, or None for no logprobs.
    """
    most = max((count for count in wanted if count is not None), default=None)
    if most is None:
        return [TokenOutput(token_id) for token_id in token_ids]
    logprobs = logits.log_softmax(dim=-1)
    by_row = logprobs.numpy()
    own = by_row[range(len(token_ids)), token_ids]
    ranks = [1 + numpy.count_nonzero(row > value) for row, value in zip(by_row, own, strict=True)]
    values, ids = (tensor.tolist() for tensor in logprobs.topk(most, dim=-1)) if most else ([()] * len(wanted),) * 2
    return [
        TokenOutput(token_id)
        if count is None
        else TokenOutput(token_id, logprob, rank, tuple(zip(top[:count], tops[:count], strict=True)))
        for token_id, logprob, rank, count, top, tops in zip(
            token_ids, own.tolist(), ranks, wanted, ids, values, strict=True
        )
    ]
