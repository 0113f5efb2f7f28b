"""The result of a run, its tokens, and the verdicts of checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.types.step_table import StepRow


class Token(NamedTuple):
    """A generated token. ``logprob`` is the natural logarithm of its probability under the model's raw logits.

    For a request with structured outputs, these are the logits after the tokens that its grammar forbids were masked.
    ``rank`` is the token's rank among all tokens of the vocabulary; the most likely token has rank 1. ``top`` has the
    most likely tokens as (token id, logprob), most likely first. Their number is the request's ``logprobs``. If the
    driver lacks the capability ``logprobs``, ``logprob`` and ``rank`` are None, and ``top`` is empty.
    """

    token_id: int
    logprob: float | None = None
    rank: int | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Run:
    """The result of running a workload: its step table, and the generated tokens of each request.

    ``unfinished`` is the reason why the run was stopped early, None if it ran to its end. ``traceback`` has the lines
    of a traceback if the engine raised an exception. ``step_seconds`` has the duration of each step in seconds, 0 for
    step 0.
    """

    steps: tuple[StepRow, ...]
    tokens: Sequence[tuple[Token, ...]]
    unfinished: str | None = None
    traceback: tuple[str, ...] = ()
    step_seconds: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Verdict:
    """The result of a check: whether it passed, with a message. ``headline`` is the message in one line.

    ``details`` are further lines of the message. ``rule`` says what is checked and where it is documented, "" if the
    check names no rule. ``data`` has values for reports. It contains only built-in types, because it is sent between
    processes.
    """

    passed: bool
    headline: str
    details: tuple[str, ...] = ()
    rule: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def failures(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts that did not pass."""
    return [verdict for verdict in verdicts if not verdict.passed]
