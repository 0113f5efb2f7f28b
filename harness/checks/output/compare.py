"""The policies: compare an engine's output with a reference at every position.

Every policy evaluates all positions; none stops at the first difference.
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
    """One position of a sequence: the expected token, the observed token, and the kinds of errors, empty if it passes.

    ``right`` None: a token too many; ``seen`` None: a missing token. ``kl`` is None if the policy does not compute it.
    """

    index: int
    right: ReferenceToken | None
    seen: Token | None
    wrong: tuple[str, ...] = ()
    kl: float | None = None

    @property
    def difference(self) -> float | None:
        """Return the absolute difference between the two logprobs of the same token."""
        if self.right is None or self.seen is None or self.seen.logprob is None:
            return None
        right = self.right.logprob_of(self.seen.token_id)
        return None if right is None else abs(self.seen.logprob - right)


@dataclass(frozen=True)
class Sequences:
    """The input of a comparison.

    ``free`` returns whether a token may be chosen at a position: before ``min_tokens``, tokens that would end the
    request may not. ``rescored`` returns the reference for the engine's own tokens, from a forward of the reference
    model. ``own_length`` is the number of tokens after which the request's stop conditions end the engine's text.
    """

    tokens: Sequence[Token]
    reference: Reference
    free: Callable[[int, int], bool]
    rescored: Callable[[], Reference]
    own_length: Callable[[], int]


def compare(policy: ResolvedPolicy, sequences: Sequences) -> list[Position]:
    """Return every position, evaluated by the policy."""
    match policy.name:
        case "exact":
            return _exact(sequences, policy.bounds)
        case "published":
            return _published(sequences, policy.bounds, same_tokens=policy.needs_same_tokens)
        case "divergence":
            return _divergence(sequences, policy.bounds)
    return _golden(sequences, policy.bounds)


def close(seen: float | None, right: float, bounds: Bounds, *, relative: bool) -> bool:
    """Return whether a logprob is within the bounds. A logprob that the driver can't observe is."""
    if seen is None or seen == right or abs(right - seen) <= bounds.noise:
        return True
    near = abs(right - seen) <= bounds.abs_tol
    return near and (not relative or math.isclose(right, seen, rel_tol=bounds.rel_tol))


def _pairs(tokens: Sequence[Token], reference: Reference) -> list[Position]:
    return [Position(i, *pair) for i, pair in enumerate(zip_longest(reference.tokens, tokens))]


def _exact(sequences: Sequences, bounds: Bounds) -> list[Position]:
    """Compare with the policy ``exact``: identical tokens, each logprob within ``rel_tol`` and ``abs_tol``."""
    checked = []
    for position in _pairs(sequences.tokens, sequences.reference):
        right, seen = position.right, position.seen
        if right is None or seen is None or right.token_id != seen.token_id:
            checked.append(replace(position, wrong=(TOKEN,)))
        elif not close(seen.logprob, right.logprob, bounds, relative=True):
            checked.append(replace(position, wrong=(LOGPROB,)))
        else:
            checked.append(position)
    return checked


def with_alternatives(positions: Sequence[Position], count: int, bounds: Bounds) -> list[Position]:
    """Check the ``count`` requested alternatives: as many at each position, each with the reference's logprob.

    The logprobs at each rank must be close. Tokens may differ only if their logprobs are equal within the bounds.
    """
    return [p if _alternatives_fit(p, count, bounds) else replace(p, wrong=(*p.wrong, ALTERNATIVES)) for p in positions]


def _alternatives_fit(position: Position, count: int, bounds: Bounds) -> bool:
    right, seen = position.right, position.seen
    if right is None or seen is None or right.token_id != seen.token_id:
        return True  # a different token is already reported
    if len(seen.top) != count:
        return False
    by_place = zip(right.top, seen.top, strict=False)
    known = dict(right.top)
    # The reference lists fewer tokens where no others are possible.
    unlisted = right.top[-1][1] if len(right.top) >= count else -math.inf
    return all(close(ours, theirs, bounds, relative=False) for (_, theirs), (_, ours) in by_place) and all(
        close(ours, known.get(token, unlisted), bounds, relative=False) for token, ours in seen.top
    )


def _published(sequences: Sequences, bounds: Bounds, *, same_tokens: bool) -> list[Position]:
    """Compare with the policy ``published``: ``math.isclose(hf_logprob, logprob, rel_tol=0.35)``, position by position.

    Positions are compared even if their tokens differ. On CPU, tokens must be identical in addition.
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
    """Compare with the policy ``divergence``: tokens may differ if the reference's best tokens are nearly equal.

    After the first difference, the engine's own text is compared, with a new forward of the reference. Each token must
    be the reference's best at that position or behind the best by at most ``margin``, with a logprob within
    ``abs_tol``.
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
    """Evaluate a token after the engine's text has diverged.

    ``right`` is the reference's result for the engine's text.
    """
    assert position.right is not None
    best = next((logprob for token, logprob in position.right.top if free(position.index, token)), -math.inf)
    if best - position.right.logprob > bounds.margin:
        return replace(position, wrong=(TOKEN,))
    return _near(position, bounds)


def _golden(sequences: Sequences, bounds: Bounds) -> list[Position]:
    """Compare with the policy ``golden``: the reference's tokens were injected, so all positions are comparable.

    The logprob of the golden token must be within ``abs_tol``. It must rank first, unless its margin in the reference
    is at most ``margin``. The divergence of the engine's top tokens from the reference's must be at most ``max_kl``.
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
    """Return KL(reference ‖ engine) in nats over the top tokens that both list, with all other tokens as one event.

    Merging events can only decrease the divergence, so the value is a lower bound.
    """
    listed = dict(seen)
    pairs = [(logprob, listed[token_id]) for token_id, logprob in right if token_id in listed]
    rest_p, rest_q = (max(1e-9, 1 - sum(math.exp(pair[side]) for pair in pairs)) for side in (0, 1))
    divergence = sum(math.exp(p) * (p - q) for p, q in pairs) + rest_p * (math.log(rest_p) - math.log(rest_q))
    return max(0.0, divergence)
