"""Compare sampled tokens with the distribution that follows from the sampling parameters and the reference's logits.

Each token of a sequence is a sample of the distribution at its position, given the tokens before it. Three statistics
of the tokens are computed. Each statistic has a closed-form bound that holds whatever the distributions are.
"""

from dataclasses import dataclass
from math import log, sqrt
from typing import Any

from harness.types import RequestSpec

FALSE_ALARM = 1e-6
"""The maximum probability that a correct engine fails a case, in any statistic of any request of the case."""

SLACK = {"float32": 1e-3}
"""Tolerance of logits, by the precision of the engine, for tokens at the edge of a filter such as top-k.

A token may be sampled if it would pass the filter with its logit increased by this much. Precisions that are not listed
have ``LARGE_SLACK``.
"""
LARGE_SLACK = 0.1


@dataclass(frozen=True)
class Statistics:
    """Statistics of the sampled tokens of one request.

    ``samples`` is the number of tokens. ``outside`` lists tokens that a correct engine can't sample, as (sequence,
    position, token id). ``distance`` is the maximum distance between the observed and the expected cumulative
    distribution function, where tokens are ordered from the most to the least likely. ``repeats`` is the number of
    tokens that equal the token before, minus the expected number. ``distance_bound`` and ``repeats_bound`` are the
    largest values accepted.
    """

    samples: int
    outside: tuple[tuple[int, int, int], ...]
    distance: float
    distance_bound: float
    repeats: float
    repeats_bound: float


def distance_bound(samples: int, alarm: float) -> float:
    """Return the largest ``distance`` of ``samples`` tokens that is accepted of exact probabilities."""
    return sqrt(log(4 / alarm) / (2 * samples))


def draws_that_can_fail(max_tokens: int, requests: int, noise: float) -> int:
    """Return the smallest number of draws for which the accepted ``distance`` is below 1, the largest possible.

    With fewer draws, no distribution of tokens would be wrong. ``max_tokens`` is that of a request in a case of
    ``requests`` requests.
    """
    draws = 1
    while distance_bound(draws * max_tokens, FALSE_ALARM / requests) + noise >= 1:
        draws += 1
    return draws


def allowed_probabilities(logits: Any, spec: RequestSpec, slack: float) -> tuple[Any, Any]:
    """Return (probability of each token under the request's sampling parameters, whether each token may be sampled).

    ``logits`` are float ``[..., vocabulary]``, with ``-inf`` for forbidden tokens. Both results have this shape. The
    temperature is applied first, then min-p, top-k and top-p, as in vLLM. The second result is bool. It is also True
    for tokens that pass the filters only if their logits are raised by ``slack``.
    """
    scaled = logits.double() / spec.temperature
    wide = slack / spec.temperature
    near = scaled.isfinite()
    if spec.min_p > 0:
        probabilities = scaled.softmax(-1)
        least = probabilities.amax(-1, keepdim=True) * spec.min_p
        near &= probabilities >= least * (1 - 2 * wide)
        scaled = scaled.masked_fill(probabilities < least, float("-inf"))
    if 0 < spec.top_k < scaled.shape[-1]:
        edge = scaled.topk(spec.top_k).values[..., -1:]
        near &= scaled >= edge - wide
        scaled = scaled.masked_fill(scaled < edge, float("-inf"))
    probabilities = scaled.softmax(-1)
    if spec.top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        before = (ordered.cumsum(-1) - ordered).scatter(-1, order, ordered.cumsum(-1) - ordered)
        before.scatter_(-1, order[..., :1], -1.0)  # top-p always keeps the most likely token.
        near &= before < spec.top_p + wide
        probabilities = probabilities.masked_fill(before >= spec.top_p, 0)
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    return probabilities, near | (probabilities > 0)


def statistics(tokens: Any, probabilities: Any, near: Any, noise: float, alarm: float) -> Statistics:
    """Return the statistics of the sampled ``tokens``, int ``[sequences, positions]``, with the bound of each.

    ``probabilities`` and ``near`` are the results of ``allowed_probabilities``, ``[sequences, positions, vocabulary]``.
    A correct engine exceeds at least one of the bounds with a probability of at most ``alarm``. ``noise`` is the
    maximum error of ``probabilities``.

    To compute ``distance``, each token is mapped to its interval of the cumulative distribution function, and a point
    in this interval is chosen uniformly at random. If the engine is correct, these points are independent and uniform
    between 0 and 1, so the Dvoretzky-Kiefer-Wolfowitz inequality bounds the distance. ``repeats`` is a martingale with
    steps of at most 1, so Azuma's inequality bounds it.
    """
    import torch

    chosen = tokens[..., None]
    own = probabilities.gather(-1, chosen)[..., 0]
    outside = (~near.gather(-1, chosen)[..., 0]).nonzero().tolist()
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    place = (order == chosen).int().argmax(-1, keepdim=True)
    before = (ordered.cumsum(-1) - ordered).gather(-1, place)[..., 0]
    spread = torch.rand(own.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uniform = (before + spread * own).flatten().sort().values
    count = len(uniform)
    steps = torch.arange(count, dtype=torch.float64)
    distance = max(float((uniform - steps / count).max()), float(((steps + 1) / count - uniform).max()))
    again = tokens[:, 1:] == tokens[:, :-1]
    expected = probabilities[:, 1:].gather(-1, tokens[:, :-1, None])[..., 0]
    repeats = float((again.double() - expected).sum())
    return Statistics(
        count,
        tuple((row, at, int(tokens[row, at])) for row, at in outside),
        distance,
        distance_bound(count, alarm) + noise,
        repeats,
        sqrt(2 * max(1, again.numel()) * log(2 / alarm)) + noise * again.numel(),
    )
