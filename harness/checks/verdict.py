"""What a check says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """``headline`` is one line; ``details`` are the lines below it; ``data`` is what reports show of it.

    ``data`` holds builtins only: it crosses process borders.
    """

    passed: bool
    headline: str
    details: tuple[str, ...] = ()
    rule: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def failures(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those that did not pass."""
    return [verdict for verdict in verdicts if not verdict.passed]
