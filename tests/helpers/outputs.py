"""Artificial reference outputs and generated tokens, for tests of output checks.

The vocabulary has the 26 letters, with token ids 0 to 25, and an end-of-sequence token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checkpoints import Checkpoint
from harness.checks.output import check_output
from harness.checks.output.policies import ResolvedPolicy, resolve_policy
from harness.drivers.base import GOLDEN_TOKENS
from harness.references import Oracle, Reference, ReferenceToken
from harness.suites.prompts import Vocabulary
from harness.suites.schema import Policy
from harness.types import RequestSpec, Structure, Token, Verdict

NO_CHECKPOINT = Checkpoint("made-up", "made-up", Path("nowhere"), None, "")


SPECIAL = 26


LETTERS = Vocabulary(
    encode=lambda text: tuple(ord(c) - ord("a") for c in text),
    decode=lambda ids: "".join("<end>" if i == SPECIAL else chr(ord("a") + i) for i in ids),
    visible=lambda ids: "".join(chr(ord("a") + i) for i in ids if i != SPECIAL),
    ordinary=tuple(range(26)),
    size=27,
    eos_token_ids=frozenset({SPECIAL}),
)


TEXT = "abcdefghijklmnopqrst"


LOGPROBS = tuple(-0.1 * (i + 1) for i in range(len(TEXT)))


def reference(token_ids: Sequence[int], logprobs: Sequence[float] = LOGPROBS, margin: float = 3.0) -> Reference:
    """Return a reference output with these tokens and logprobs, and with two alternatives for each token.

    The first alternative is the next letter, with a logprob that is lower by ``margin``. The second is ``z``, lower by
    ``margin + 1``.
    """
    return Reference(
        tuple(
            ReferenceToken(i, p, ((i, p), ((i + 1) % 26, p - margin), (25, p - margin - 1)))
            for i, p in zip(token_ids, logprobs, strict=False)
        )
    )


RIGHT = reference(LETTERS.encode(TEXT))


class Rescoring(Oracle):
    """An oracle, which computes reference outputs. Its method ``scored`` returns a given output and runs no model."""

    def __init__(self, given: Reference) -> None:
        super().__init__(may_compute=True)
        self.given = given

    def scored(
        self,
        checkpoint: Checkpoint,
        prompt: tuple[int, ...],
        token_ids: tuple[int, ...],
        structure: Structure | None = None,
    ) -> Reference:
        return self.given


def spec(max_tokens: int = 8, **more: Any) -> RequestSpec:
    return RequestSpec(3, (5, 6), max_tokens, **more)


def policy(name: str = "exact", precision: str = "float32", **bounds: float) -> ResolvedPolicy:
    return resolve_policy(Policy.model_validate({"name": name, **bounds}), precision, {GOLDEN_TOKENS})


def tokens(text: str, logprobs: Sequence[float | None] = LOGPROBS) -> list[Token]:
    return [Token(i, logprob, 1) for i, logprob in zip(LETTERS.encode(text), logprobs, strict=False)]


def checked(
    seen: Sequence[Token],
    request: RequestSpec | None = None,
    *,
    by: ResolvedPolicy | None = None,
    right: Reference = RIGHT,
    rescored: Reference | None = None,
    **more: Any,
) -> Verdict:
    oracle = Oracle(may_compute=False) if rescored is None else Rescoring(rescored)
    return check_output(
        request or spec(), seen, right, by or policy(), LETTERS, oracle=oracle, checkpoint=NO_CHECKPOINT, **more
    )


def wrong(verdict: Verdict) -> dict[str, list[str]]:
    return dict(verdict.data["wrong"])


def with_logprob(position: int, logprob: float | None) -> list[Token]:
    seen = tokens("abcdefgh")
    seen[position] = seen[position]._replace(logprob=logprob)
    return seen
