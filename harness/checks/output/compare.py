"""Compare an engine's output with a reference, position by position, by one of four policies.

docs/outputs.md describes the policies. Every policy evaluates all positions, also those after the first difference.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from harness.checks.output.policies import Bounds, ResolvedPolicy
from harness.references import Reference, ReferenceToken
from harness.types import Token

TOKEN = "token"
LOGPROB = "logprob"
RANK = "rank"
KL = "KL"
ALTERNATIVES = "alternatives"
COUNT = "count"


@dataclass(frozen=True)
class Position:
    """The result of a comparison at one position of a sequence.

    ``right`` is the reference's token, None if the engine generated more tokens. ``seen`` is the engine's token, None
    if the engine generated fewer tokens. ``wrong`` has the kinds of differences that the policy does not allow. ``kl``
    is the Kullback-Leibler divergence, None if the policy does not use it.
    """

    index: int
    right: ReferenceToken | None
    seen: Token | None
    wrong: tuple[str, ...] = ()
    kl: float | None = None

    @property
    def difference(self) -> float | None:
        """Return the absolute difference between the engine's and the reference's logprob of the engine's token.

        Return None if one of the two is not known.
        """
        if self.right is None or self.seen is None or self.seen.logprob is None:
            return None
        right = self.right.logprob_of(self.seen.token_id)
        return None if right is None else abs(self.seen.logprob - right)


@dataclass(frozen=True)
class Sequences:
    """The engine's tokens, the reference, and functions that a comparison of the two needs.

    ``free(position, token_id)`` returns whether the token may be chosen at a position: before ``min_tokens``, tokens
    that end the request may not be chosen. ``rescored()`` runs the reference model on the engine's tokens, and returns
    the model's logprobs of them. ``own_length()`` returns the number of the engine's tokens up to the one at which a
    stop condition ends the request.
    """

    tokens: Sequence[Token]
    reference: Reference
    free: Callable[[int, int], bool]
    rescored: Callable[[], Reference]
    own_length: Callable[[], int]


def compare(policy: ResolvedPolicy, sequences: Sequences) -> list[Position]:
    """Compare all positions by the policy, and return the result for each."""
    match policy.name:
        case "exact":
            return _exact(sequences, policy.bounds)
        case "published":
            return _published(sequences, policy.bounds, same_tokens=policy.needs_same_tokens)
        case "divergence":
            return _divergence(sequences, policy.bounds)
    return _golden(sequences, policy.bounds)


def close(seen: float | None, right: float, bounds: Bounds, *, relative: bool) -> bool:
    """Return whether the engine's logprob (``seen``) is close enough to the reference's logprob (``right``).

    If the driver can't observe logprobs, ``seen`` is None and the result is True. With ``relative``, the relative
    tolerance applies in addition to the absolute one.
    """
    if seen is None or seen == right or abs(right - seen) <= bounds.noise:
        return True
    near = abs(right - seen) <= bounds.abs_tol
    return near and (not relative or math.isclose(right, seen, rel_tol=bounds.rel_tol))


def _pairs(tokens: Sequence[Token], reference: Reference) -> list[Position]:
    return [Position(i, *pair) for i, pair in enumerate(zip_longest(reference.tokens, tokens))]


def _exact(sequences: Sequences, bounds: Bounds) -> list[Position]:
    """Compare by the policy ``exact``: identical tokens and ranks, and logprobs within ``rel_tol`` and ``abs_tol``."""
    checked = []
    for position in _pairs(sequences.tokens, sequences.reference):
        right, seen = position.right, position.seen
        if right is None or seen is None or right.token_id != seen.token_id:
            checked.append(replace(position, wrong=(TOKEN,)))
        elif not close(seen.logprob, right.logprob, bounds, relative=True):
            checked.append(replace(position, wrong=(LOGPROB,)))
        elif not _rank_fits(seen.rank, right, bounds):
            checked.append(replace(position, wrong=(RANK,)))
        else:
            checked.append(position)
    return checked


def _rank_fits(seen: int | None, right: ReferenceToken, bounds: Bounds) -> bool:
    """Return whether ``seen``, the engine's rank of a token, agrees with the reference's logprobs; True if it is None.

    ``right`` is the token in the reference, with the reference's top tokens. Tokens whose logprobs differ by at most
    ``margin`` may be in either order. Two conditions follow. First, tokens that are more likely by more than ``margin``
    rank above the token, so its rank must be larger than their number. Second, tokens that are less likely by more than
    ``margin`` rank below it, so its rank must be at most the number of the remaining tokens, including itself. The
    second condition is checked only if the token's logprob is more than ``margin`` above that of the last top token.
    Otherwise tokens that are not among the top tokens can rank above it.
    """
    if seen is None:
        return True
    above = sum(logprob > right.logprob + bounds.margin for _, logprob in right.top)
    listed = right.top[-1][1] < right.logprob - bounds.margin
    near = sum(logprob >= right.logprob - bounds.margin for _, logprob in right.top)
    return above < seen and (not listed or seen <= near)


def with_alternatives(positions: Sequence[Position], count: int, bounds: Bounds) -> list[Position]:
    """Check that each position has ``count`` alternative tokens, and compare their logprobs with the reference's.

    At each rank, the engine's and the reference's logprob must be close. The tokens at a rank may differ only if their
    logprobs in the reference are close as well. If a position breaks one of these rules, ALTERNATIVES is added to its
    ``wrong``.
    """
    return [p if _alternatives_fit(p, count, bounds) else replace(p, wrong=(*p.wrong, ALTERNATIVES)) for p in positions]


def _alternatives_fit(position: Position, count: int, bounds: Bounds) -> bool:
    right, seen = position.right, position.seen
    if right is None or seen is None or right.token_id != seen.token_id:
        return True  # The different token is already reported.
    if len(seen.top) != count:
        return False
    by_place = zip(right.top, seen.top, strict=False)
    known = dict(right.top)
    # The reference has fewer than ``count`` tokens if a constraint excludes all others; their logprob is -inf.
    unlisted = right.top[-1][1] if len(right.top) >= count else -math.inf
    return all(close(ours, theirs, bounds, relative=False) for (_, theirs), (_, ours) in by_place) and all(
        close(ours, known.get(token, unlisted), bounds, relative=False) for token, ours in seen.top
    )


def _published(sequences: Sequences, bounds: Bounds, *, same_tokens: bool) -> list[Position]:
    """Compare by the policy ``published``, the comparison in vllm-spyre's own tests.

    At each position, ``math.isclose(hf_logprob, logprob, rel_tol=0.35)`` must hold, even if the two tokens differ. With
    ``same_tokens``, the tokens must be identical as well.
    """
    checked = []
    for position in _pairs(sequences.tokens, sequences.reference):
        right, seen = position.right, position.seen
        if right is None or seen is None:
            checked.append(replace(position, wrong=(TOKEN,)))
            continue
        wrong = [TOKEN] if same_tokens and right.token_id != seen.token_id else []
        if seen.logprob is not None and not math.isclose(right.logprob, seen.logprob, rel_tol=bounds.rel_tol):
            wrong.append(LOGPROB)
        checked.append(replace(position, wrong=tuple(wrong)))
    return checked


def _divergence(sequences: Sequences, bounds: Bounds) -> list[Position]:
    """Compare by the policy ``divergence``: the engine may choose a token that is nearly as likely as the best one.

    From the first token on that differs from the reference's, logprobs are compared with those that the reference model
    computes for the engine's own tokens. A token's logprob by the reference model must be at most ``margin`` below that
    of the best token, and differ by at most ``abs_tol`` from its logprob in the engine.
    """
    tokens, pairs = sequences.tokens, _pairs(sequences.tokens, sequences.reference)
    shared = min(len(tokens), len(sequences.reference.tokens))
    parted = next((i for i in range(shared) if tokens[i].token_id != sequences.reference.tokens[i].token_id), None)
    checked = [_near(position, bounds) for position in pairs[:parted]]
    if parted is None:
        return checked
    rescored = _pairs(tokens, sequences.rescored())
    checked += [_near_the_best(position, sequences.free, bounds) for position in rescored[parted:]]
    if len(tokens) != sequences.own_length():
        checked[-1] = replace(checked[-1], wrong=(*checked[-1].wrong, COUNT))
    return checked


def _near(position: Position, bounds: Bounds) -> Position:
    right, seen = position.right, position.seen
    if right is None or seen is None:
        return replace(position, wrong=(TOKEN,))
    near = close(seen.logprob, right.logprob, bounds, relative=False)
    return position if near else replace(position, wrong=(LOGPROB,))


def _near_the_best(position: Position, free: Callable[[int, int], bool], bounds: Bounds) -> Position:
    """Return ``position`` with the result of checking a token of the engine at or after the first different token.

    ``position.right`` is the engine's token with its logprob by the reference model. ``free(position, token_id)``
    returns whether a token may be chosen at a position.
    """
    assert position.right is not None
    best = next((logprob for token, logprob in position.right.top if free(position.index, token)), -math.inf)
    if best - position.right.logprob > bounds.margin:
        return replace(position, wrong=(TOKEN,))
    return _near(position, bounds)


def _golden(sequences: Sequences, bounds: Bounds) -> list[Position]:
    """Compare by the policy ``golden``: the engine was forced to generate the reference's tokens, the golden tokens.

    The logprob of each golden token must be within ``abs_tol`` of the reference's. If the token is the reference's best
    token, it must rank first in the engine, unless the reference's second-best token is at most ``margin`` less likely.
    A golden token is not always the best one, because ranks are those before ``min_tokens`` and logits processors. The
    Kullback-Leibler divergence between the top tokens of reference and engine must be at most ``max_kl``.
    """
    checked = []
    for position in _pairs(sequences.tokens, sequences.reference):
        right, seen = position.right, position.seen
        if right is None or seen is None or right.token_id != seen.token_id:
            checked.append(replace(position, wrong=(TOKEN,)))
            continue
        wrong = [] if close(seen.logprob, right.logprob, bounds, relative=False) else [LOGPROB]
        chosen_freely = right.top[0][0] == right.token_id
        if chosen_freely and seen.rank is not None and seen.rank > 1 and right.margin > bounds.margin:
            wrong.append(RANK)
        kl = kl_over_top(right.top, seen.top) if seen.top else None
        if kl is not None and not kl <= bounds.max_kl:
            wrong.append(KL)
        checked.append(replace(position, wrong=tuple(wrong), kl=kl))
    return checked


def kl_over_top(right: Sequence[tuple[int, float]], seen: Sequence[tuple[int, float]]) -> float:
    """Return a lower bound of the Kullback-Leibler divergence KL(reference ‖ engine), in nats.

    ``right`` has the reference's top tokens and ``seen`` the engine's, as (token id, logprob) pairs. The divergence is
    computed over the tokens that are in both. All other tokens count as one event, so the result may be too small.
    """
    listed = dict(seen)
    pairs = [(logprob, listed[token_id]) for token_id, logprob in right if token_id in listed]
    rest_p, rest_q = (max(1e-9, 1 - sum(math.exp(pair[side]) for pair in pairs)) for side in (0, 1))
    divergence = sum(math.exp(p) * (p - q) for p, q in pairs) + rest_p * (math.log(rest_p) - math.log(rest_q))
    return max(0.0, divergence)
