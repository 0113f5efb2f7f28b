"""Compare drawn tokens with the distribution given by a request's parameters and the reference's logits.

Each token of a sequence is compared with the distribution at its own position, given the tokens before it, so that
every token is a sample. There are three statistics, each with a closed-form bound that holds for all distributions.
"""

from dataclasses import dataclass
from math import log, sqrt
from typing import Any

from harness.types import RequestSpec

FALSE_ALARM = 1e-6
"""The largest probability that a correct engine fails a case, all its requests and statistics together."""

SLACK = {"float32": 1e-3}
"""How far off logits may be, relative to their spread of 1, at which a token at the edge of a filter may be drawn."""
LARGE_SLACK = 0.1


@dataclass(frozen=True)
class Statistics:
    """Statistics of the drawn tokens of one request.

    ``outside`` are (row, place, token id) that no correct engine draws. ``distance`` is the largest distance between
    the distribution function of the drawn tokens, most likely first, and the expected one; ``repeats`` is how many
    tokens more than expected equal the token before. Each has its ``bound``.

    ``distance`` is the largest distance between the distribution function of the drawn tokens, most likely first, and
    the expected one; ``repeats`` is how many tokens more than expected equal the token before. Each has its ``bound``.
    """

    samples: int
    outside: tuple[tuple[int, int, int], ...]
    distance: float
    distance_bound: float
    repeats: float
    repeats_bound: float


def allowed_probabilities(logits: Any, spec: RequestSpec, slack: float) -> tuple[Any, Any]:
    """Return probabilities, and which tokens can be drawn, from logits without forbidden tokens.

    ``logits`` are ``[..., vocabulary]``. Temperature is applied first, then the ``top_k`` most likely tokens are kept,
    then the fewest that sum to ``top_p``, then those with ``min_p`` times the probability of the most likely one. The
    second result also includes tokens within ``slack`` of the edge of a filter.
    """
    scaled = logits.double() / spec.temperature
    wide = slack / spec.temperature
    near = scaled.isfinite()
    if 0 < spec.top_k < scaled.shape[-1]:
        edge = scaled.topk(spec.top_k).values[..., -1:]
        near &= scaled >= edge - wide
        scaled = scaled.masked_fill(scaled < edge, float("-inf"))
    probabilities = scaled.softmax(-1)
    if spec.top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        before = (ordered.cumsum(-1) - ordered).scatter(-1, order, ordered.cumsum(-1) - ordered)
        before.scatter_(-1, order[..., :1], -1.0)  # the most likely token is always kept
        near &= before < spec.top_p + wide
        probabilities = probabilities.masked_fill(before >= spec.top_p, 0)
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    if spec.min_p > 0:
        least = probabilities.amax(-1, keepdim=True) * spec.min_p
        near &= probabilities >= least * (1 - 2 * wide)
        probabilities = probabilities.masked_fill(probabilities < least, 0)
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    return probabilities, near | (probabilities > 0)


def statistics(tokens: Any, probabilities: Any, near: Any, noise: float, alarm: float) -> Statistics:
    """Return the statistics of ``tokens`` ``[rows, places]`` drawn by ``probabilities`` ``[rows, places, vocabulary]``.

    ``near`` marks the tokens that can be drawn, as above. A correct engine exceeds one of the bounds with a probability
    of at most ``alarm``; ``noise`` is the error of the probabilities. The distance: the position of a token in the
    distribution function at its place, randomized uniformly within its step, is uniform and independent of the tokens
    before, so the bound is that of Dvoretzky, Kiefer and Wolfowitz. The repeats are the sum of a martingale with steps
    of at most 1: Azuma's bound.
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
        sqrt(log(4 / alarm) / (2 * count)) + noise,
        repeats,
        sqrt(2 * max(1, again.numel()) * log(2 / alarm)) + noise * again.numel(),
    )
