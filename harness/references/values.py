"""What is asked of the reference, and what it says."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

TOP = 5
"""How many of the most likely tokens are kept at each position, where a request asks for no more."""


@dataclass(frozen=True)
class Processors:
    """What changes logits before the most likely token is taken; see RequestSpec. ``bad_words`` are token ids.

    ``bad_words`` and the penalties for presence and frequency count generated tokens only, ``repetition_penalty`` the
    prompt's too.
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
    """A greedy continuation that is wanted: ``max_tokens`` tokens, past any end-of-sequence token.

    ``forbidden`` tokens are not chosen among the first ``forbidden_until`` ones. ``top`` most likely tokens are kept at
    each position.
    """

    prompt_token_ids: tuple[int, ...]
    max_tokens: int
    forbidden: tuple[int, ...] = ()
    forbidden_until: int = 0
    top: int = TOP
    processors: Processors = NO_PROCESSORS

    @property
    def key(self) -> str:
        """Hex SHA-256 of all that decides the tokens; how many of them is not part of it."""
        forbidden = self.forbidden if self.forbidden_until else ()
        asked: list[object] = [list(self.prompt_token_ids), list(forbidden), self.forbidden_until if forbidden else 0]
        if self.processors != NO_PROCESSORS:
            asked.append(asdict(self.processors))
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def widened(wanted: Sequence[Wanted]) -> tuple[Wanted, ...]:
    """The same, but those with one key all as long and as wide as the longest and widest: one reference serves them."""
    longest: dict[str, int] = {}
    widest: dict[str, int] = {}
    keys = [each.key for each in wanted]
    for key, each in zip(keys, wanted, strict=True):
        longest[key] = max(each.max_tokens, longest.get(key, 0))
        widest[key] = max(each.top, widest.get(key, 0))
    pairs = zip(keys, wanted, strict=True)
    return tuple(replace(each, max_tokens=longest[key], top=widest[key]) for key, each in pairs)


class ReferenceToken(NamedTuple):
    """A token with its logprob (natural logarithm, raw logits), and the most likely tokens there, best first."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]

    @property
    def margin(self) -> float:
        """The logprob of the best token less that of the second best."""
        return self.top[0][1] - self.top[1][1]

    def logprob_of(self, token_id: int) -> float | None:
        """The logprob of another token, if it is among those kept."""
        return self.logprob if token_id == self.token_id else dict(self.top).get(token_id)


@dataclass(frozen=True)
class Reference:
    """What Hugging Face generates, token by token."""

    tokens: tuple[ReferenceToken, ...]

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(token.token_id for token in self.tokens)

    def upto(self, count: int) -> "Reference":
        """The first ``count`` tokens."""
        return self if count >= len(self.tokens) else Reference(self.tokens[:count])

    def answers(self, wanted: Wanted) -> bool:
        """Whether it is long and wide enough for what is wanted of the same prompt."""
        return len(self.tokens) >= wanted.max_tokens and all(len(token.top) >= wanted.top for token in self.tokens[:1])
