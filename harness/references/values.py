"""Types for reference outputs: ``Wanted`` says what to compute, and ``Reference`` is the result."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from harness.types import Structure

TOP = 5
"""Default number of top tokens that are stored at each position."""


class ReferenceMissingError(LookupError):
    """Reference outputs are missing in the file, and must not be computed."""


@dataclass(frozen=True)
class Processors:
    """The parameters of a request that change logits before a token is chosen. They are named as in ``RequestSpec``.

    ``bad_words`` are sequences of token ids. Only generated tokens count for ``bad_words``, ``presence_penalty`` and
    ``frequency_penalty``. For ``repetition_penalty``, the tokens of the prompt count as well.
    """

    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[tuple[int, ...], ...] = ()


NO_PROCESSORS = Processors()


@dataclass(frozen=True)
class Wanted:
    """What to compute for a prompt: a greedy continuation of exactly ``max_tokens`` tokens, which EOS does not end.

    The token ids in ``forbidden`` are not chosen at the first ``forbidden_until`` positions. ``top`` is the number of
    most likely tokens to store at each position; if a constraint allows fewer tokens at a position, fewer are stored.
    ``structure`` is the constraint that the tokens up to EOS must satisfy. If ``given`` is not empty, its tokens are
    the continuation, and only their logprobs are computed.
    """

    prompt_token_ids: tuple[int, ...]
    max_tokens: int
    forbidden: tuple[int, ...] = ()
    forbidden_until: int = 0
    top: int = TOP
    processors: Processors = NO_PROCESSORS
    structure: Structure | None = None
    given: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """Return the key by which a file of reference outputs identifies a reference.

        The key is the SHA-256, as hex, of all fields that affect which tokens are chosen.
        """
        forbidden = self.forbidden if self.forbidden_until else ()
        parts: list[object] = [list(self.prompt_token_ids), list(forbidden), self.forbidden_until if forbidden else 0]
        if self.processors != NO_PROCESSORS:
            parts.append(asdict(self.processors))
        if self.structure is not None:
            # The key includes ``top``: with a constraint, an entry with fewer top tokens may be complete.
            parts.append({"structured_outputs": self.structure.arguments(), "top": self.top})
        if self.given:
            parts.append({"given": list(self.given)})
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def widened(wanted: Sequence[Wanted]) -> tuple[Wanted, ...]:
    """Return ``wanted`` with larger ``max_tokens`` and ``top``, so that one reference is enough for each key.

    Each entry gets the largest ``max_tokens`` and the largest ``top`` of all entries with the same ``Wanted.key``.
    Entries have the same key if they are the same except for ``max_tokens`` and, without a constraint, ``top``. One
    reference is then enough for all of them, because a shorter continuation is the beginning of the longest.
    """
    longest: dict[str, int] = {}
    widest: dict[str, int] = {}
    keys = [each.key for each in wanted]
    for key, each in zip(keys, wanted, strict=True):
        longest[key] = max(each.max_tokens, longest.get(key, 0))
        widest[key] = max(each.top, widest.get(key, 0))
    pairs = zip(keys, wanted, strict=True)
    return tuple(replace(each, max_tokens=longest[key], top=widest[key]) for key, each in pairs)


class ReferenceToken(NamedTuple):
    """A token of a reference output.

    ``logprob`` (natural logarithm) is computed from the logits before penalties and other logits processors, but after
    the constraint of structured outputs was applied. ``top`` has the most likely tokens at the same position, as (token
    id, logprob), most likely first.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]

    @property
    def margin(self) -> float:
        """Return the logprob of the most likely token at this position minus that of the second most likely token.

        The result is infinite if a constraint allows only one token.
        """
        return self.top[0][1] - self.top[1][1] if len(self.top) > 1 else math.inf

    @property
    def rank(self) -> int | None:
        """Return the rank of the token among all tokens, from 1, None if it is not among the stored top tokens."""
        return next((rank for rank, (token_id, _) in enumerate(self.top, 1) if token_id == self.token_id), None)

    def logprob_of(self, token_id: int) -> float | None:
        """Return the logprob of the token ``token_id`` at this position, None if that token is not stored."""
        return self.logprob if token_id == self.token_id else dict(self.top).get(token_id)


@dataclass(frozen=True)
class Reference:
    """The tokens that Hugging Face generates for a prompt."""

    tokens: tuple[ReferenceToken, ...]

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(token.token_id for token in self.tokens)

    def upto(self, count: int) -> "Reference":
        """Return a reference with only the first ``count`` tokens, ``self`` if it has at most ``count`` tokens."""
        return self if count >= len(self.tokens) else Reference(self.tokens[:count])

    def answers(self, wanted: Wanted) -> bool:
        """Return whether the reference has at least as many tokens and top tokens as ``wanted`` needs.

        ``wanted`` must have the same key as the entry for which the reference was computed.
        """
        enough = (len(token.top) >= wanted.top for token in self.tokens[:1])
        return len(self.tokens) >= wanted.max_tokens and (wanted.structure is not None or all(enough))
