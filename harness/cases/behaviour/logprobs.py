"""Compare the logprobs in an answer, of its tokens and of their alternatives, with those of the reference."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.checks.output.compare import close
from harness.checks.output.policies import DEFAULT_BOUNDS, Bounds
from harness.drivers.client import Logprobs

LOWEST = -9999.0
"""The logprob that an API returns instead of minus infinity, for which JSON has no number."""


@dataclass(frozen=True)
class ExpectedLogprobs:
    """The logprobs that Hugging Face computes for consecutive tokens.

    ``own`` has the logprob of each token, and ``top`` the logprobs of the most likely tokens at its position, the
    largest first. The first token of a prompt has the values None and (). ``alternatives`` is the number of top tokens
    that the request asks for at each position. A position has fewer in ``top`` if a constraint allows fewer tokens.
    """

    own: tuple[float | None, ...]
    top: tuple[tuple[float, ...], ...]
    alternatives: int


def wrong_logprobs(what: str, seen: Logprobs | None, wanted: ExpectedLogprobs, precision: str) -> list[str]:
    """Return an error message for each token whose logprob or whose alternatives are not those of the reference.

    ``seen`` are the logprobs in an answer, None if it has none. Each message begins with ``what``. ``precision`` is the
    precision in which the engine computes, such as ``float16``.
    """
    own = () if seen is None else seen.own
    if seen is None or len(own) != len(wanted.own):
        return [f"{what} has {len(own)} logprobs, expected {len(wanted.own)}"]
    alternatives = seen.alternatives or [()] * len(own)
    if len(alternatives) != len(own):
        return [f"{what} has alternatives for {len(alternatives)} tokens, expected {len(own)}"]
    bounds, wrong = DEFAULT_BOUNDS[precision], []
    rows = zip(own, alternatives, wanted.own, wanted.top, strict=True)
    for token, (ours, listed, theirs, top) in enumerate(rows):
        if (ours is None) != (theirs is None) or not (theirs is None or close(ours, theirs, bounds, relative=False)):
            wrong.append(f"logprob of token {token} is {_shown(ours)}, Hugging Face says {_shown(theirs)}")
        elif ours is not None:
            expected = _expected_alternatives(wanted.alternatives, top)
            if len(listed) > wanted.alternatives:  # An API may list the token itself in addition to the top tokens.
                expected.append(ours)
            wrong += [f"token {token} {text}" for text in _wrong_alternatives(listed, expected, bounds)]
    return [f"{what}: {text}" for text in wrong]


def _expected_alternatives(count: int, top: Sequence[float]) -> list[float]:
    """Return the logprobs of the ``count`` most likely tokens. Tokens that a constraint excludes have -inf."""
    return [*top[:count], *[-math.inf] * (count - len(top))]


def _wrong_alternatives(listed: Sequence[float], expected: Sequence[float], bounds: Bounds) -> list[str]:
    """Return an error message if the logprobs ``listed`` for a token are too many or too few, or for each wrong one."""
    if len(listed) != len(expected):
        return [f"has {len(listed)} alternatives, expected {len(expected)}"]
    ranked = [-math.inf if logprob <= LOWEST else logprob for logprob in sorted(listed, reverse=True)]
    return [
        f"has alternative {rank} with logprob {_shown(ours)}, Hugging Face says {_shown(theirs)}"
        for rank, (ours, theirs) in enumerate(zip(ranked, expected, strict=True), 1)
        if not close(ours, theirs, bounds, relative=False)
    ]


def _shown(logprob: float | None) -> str:
    return "none" if logprob is None else f"{logprob:.4f}"
