"""The policies: a reference and what an engine gave, position by position, and what is wrong at each.

Every policy looks at every position; none stops at the first difference.
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
    """One position of a sequence: what is right, what came, and what is wrong with it, nothing where it passes.

    ``right`` None: a token too many; ``seen`` None: one is missing. ``kl`` is None where the policy does not ask.
    """

    index: int
    right: ReferenceToken | None
    seen: Token | None
    wrong: tuple[str, ...] = ()
    kl: float | None = None

    @property
    def difference(self) -> float | None:
        """How far apart the two logprobs of the same token are."""
        if self.right is None or self.seen is None or self.seen.logprob is None:
            return None
        right = self.right.logprob_of(self.seen.token_id)
        return None if right is None else abs(self.seen.logprob - right)


@dataclass(frozen=True)
class Sequences:
    """What is compared.

    ``free`` tells which tokens may be chosen at a position: before ``min_tokens``, none that would end the request.
    ``rescored`` judges the engine's own tokens one by one, by a forward of the reference. ``own_length`` is how many of
    them there should be, by the request's stop conditions.
    """

    tokens: Sequence[Token]
    reference: Reference
    free: Callable[[int, int], bool]
    rescored: Callable[[], Reference]
    own_length: Callable[[], int]


def compare(policy: ResolvedPolicy, sequences: Sequences) -> list[Position]:
    """Every position, by the policy's rule."""
    match policy.name:
        case "exact":
            return _exact(sequences, policy.bounds)
        case "published":
            return _published(sequences, policy.bounds, same_tokens=policy.needs_same_tokens)
        case "divergence":
            return _divergence(sequences, policy.bounds)
    return _golden(sequences, policy.bounds)


def close(seen: float | None, right: float, bounds: Bounds, *, relative: bool) -> bool:
    """Whether a logprob passes; one that the driver cannot see does."""
    if seen is None or abs(right - seen) <= bounds.noise:
        return True
    near = abs(right - seen) <= bounds.abs_tol
    return near and (not relative or math.isclose(right, seen, rel_tol=bounds.rel_tol))


def _pairs(tokens: Sequence[Token], reference: Reference) -> list[Position]:
    return [Position(i, *pair) for i, pair in enumerate(zip_longest(reference.tokens, tokens))]


def _exact(sequences: Sequences, bounds: Bounds) -> list[Position]:
    """Identical tokens, each logprob within ``rel_tol`` and within ``abs_tol``."""
    judged = []
    for position in _pairs(sequences.tokens, sequences.reference):
        right, seen = position.right, position.seen
        if right is None or seen is None or right.token_id != seen.token_id:
            judged.append(replace(position, wrong=(TOKEN,)))
        elif not close(seen.logprob, right.logprob, bounds, relative=True):
            judged.append(replace(position, wrong=(LOGPROB,)))
        else:
            judged.append(position)
    return judged


def with_alternatives(positions: Sequence[Position], count: int, bounds: Bounds) -> list[Position]:
    """For a request that asked for ``count`` alternatives: as many at each position, each with the right logprob.

    Place by place the logprobs must be close; which token stands there may differ only between equals.
    """
    return [p if _alternatives_fit(p, count, bounds) else replace(p, wrong=(*p.wrong, ALTERNATIVES)) for p in positions]


def _alternatives_fit(position: Position, count: int, bounds: Bounds) -> bool:
    right, seen = position.right, position.seen
    if right is None or seen is None or right.token_id != seen.token_id:
        return True  # that they are another token's is said already
    if len(seen.top) != count:
        return False
    by_place = zip(right.top, seen.top, strict=False)
    known = dict(right.top)
    return all(close(ours, theirs, bounds, relative=False) for (_, theirs), (_, ours) in by_place) and all(
        close(ours, known.get(token, right.top[-1][1]), bounds, relative=False) for token, ours in seen.top
    )


def _published(sequences: Sequences, bounds: Bounds, *, same_tokens: bool) -> list[Position]:
    """The mission's rule as written: ``math.isclose(hf_logprob, logprob, rel_tol=0.35)``, pairwise.

    It compares by position also where the tokens are different ones. On CPU tokens must be the same besides.
    """
    judged = []
    for position in _pairs(sequences.tokens, sequences.reference):
        right, seen = position.right, position.seen
        if right is None or seen is None:
            judged.append(replace(position, wrong=(TOKEN,)))
            continue
        wrong = [TOKEN] if same_tokens and right.token_id != seen.token_id else []
        if seen.logprob is not None and not math.isclose(right.logprob, seen.logprob, rel_tol=bounds.rel_tol):
            wrong.append(LOGPROB)
        judged.append(replace(position, wrong=tuple(wrong)))
    return judged


def _divergence(sequences: Sequences, bounds: Bounds) -> list[Position]:
    """Tokens may part where the reference itself wavers; from there on the engine's own text is judged.

    Each token must be the best the reference knows at that place, or behind the best by ``margin`` at most, and its
    logprob within ``abs_tol``. Behind the first difference the reference is asked again, about the engine's tokens.
    """
    tokens, pairs = sequences.tokens, _pairs(sequences.tokens, sequences.reference)
    shared = min(len(tokens), len(sequences.reference.tokens))
    parted = next((i for i in range(shared) if tokens[i].token_id != sequences.reference.tokens[i].token_id), None)
    judged = [_near(position, bounds) for position in pairs[:parted]]
    if parted is None:
        return judged
    rescored = _pairs(tokens, sequences.rescored())
    judged += [_near_the_best(position, sequences.free, bounds) for position in rescored[parted:]]
    if len(tokens) != sequences.own_length():
        judged[-1] = replace(judged[-1], wrong=(*judged[-1].wrong, COUNT))
    return judged


def _near(position: Position, bounds: Bounds) -> Position:
    right, seen = position.right, position.seen
    if right is None or seen is None:
        return replace(position, wrong=(TOKEN,))
    near = close(seen.logprob, right.logprob, bounds, relative=False)
    return position if near else replace(position, wrong=(LOGPROB,))


def _near_the_best(position: Position, free: Callable[[int, int], bool], bounds: Bounds) -> Position:
    """Of a token that the engine chose after words of its own: ``right`` is the reference's opinion of it."""
    assert position.right is not None
    best = next((logprob for token, logprob in position.right.top if free(position.index, token)), -math.inf)
    if best - position.right.logprob > bounds.margin:
        return replace(position, wrong=(TOKEN,))
    return _near(position, bounds)


def _golden(sequences: Sequences, bounds: Bounds) -> list[Position]:
    """The reference's tokens were injected, so every position is comparable, whatever happened before it.

    The logprob of the golden token within ``abs_tol``; it ranks first, unless its lead in the reference is ``margin``
    at most; the divergence of the engine's most likely tokens from the reference's is ``max_kl`` at most.
    """
    judged = []
    for position in _pairs(sequences.tokens, sequences.reference):
        right, seen = position.right, position.seen
        if right is None or seen is None or right.token_id != seen.token_id:
            judged.append(replace(position, wrong=(TOKEN,)))
            continue
        wrong = [] if close(seen.logprob, right.logprob, bounds, relative=False) else [LOGPROB]
        chosen_freely = right.top[0][0] == right.token_id
        if chosen_freely and seen.rank is not None and seen.rank > 1 and right.margin > bounds.margin:
            wrong.append(RANK)
        kl = kl_over_top(right.top, seen.top) if seen.top else None
        if kl is not None and not kl <= bounds.max_kl:
            wrong.append(KL)
        judged.append(replace(position, wrong=tuple(wrong), kl=kl))
    return judged


def kl_over_top(right: Sequence[tuple[int, float]], seen: Sequence[tuple[int, float]]) -> float:
    """KL(reference ‖ engine) in nats over the reference's most likely tokens that the engine lists, all others as one.

    Taking tokens together can only make it smaller: it never says more than is so.
    """
    listed = dict(seen)
    pairs = [(logprob, listed[token_id]) for token_id, logprob in right if token_id in listed]
    rest_p, rest_q = (max(1e-9, 1 - sum(math.exp(pair[side]) for pair in pairs)) for side in (0, 1))
    divergence = sum(math.exp(p) * (p - q) for p, q in pairs) + rest_p * (math.log(rest_p) - math.log(rest_q))
    return max(0.0, divergence)
