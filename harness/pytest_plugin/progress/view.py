"""Render the progress of a run with rich."""

import time
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.report.outcomes import PROBLEMS, SYMBOLS, duration

MAX_RUNNING = 4
COLOURS = {"passed": "green", "failed": "red", "error": "red", "skipped": "bright_black", "xfailed": "bright_black"}


@dataclass
class RunState:
    """The progress of a run.

    ``total`` is the number of tests, 0 if it is not known. ``counts`` has the number of tests with each outcome, and
    ``running`` the start time of each running test, by node id. ``began`` is the start time of the run. Times are as in
    ``time.time``. ``steps`` is the number of engine steps so far.
    """

    total: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    running: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    began: float = field(default_factory=time.time)

    def finished(self, test: str, outcome: str, steps: int) -> None:
        """Record that a test has ended. ``steps`` is the number of its engine steps."""
        self.running.pop(test, None)
        self.counts[outcome] += 1
        self.steps += steps


def rendered(state: RunState, now: float) -> Group:
    """Return a progress bar, a line with counts and steps per second, and a line for each running test.

    The test that has been running longest comes first.
    """
    done = sum(state.counts.values())
    seconds = max(now - state.began, 0.001)
    head = Table.grid(padding=(0, 1))
    of = f"{done} of {state.total}" if state.total else f"{done}"
    rate = f"{state.steps:,} steps, {state.steps / seconds:,.0f}/s" if state.steps else ""
    bar = ProgressBar(total=state.total or None, completed=done, width=20, pulse=not state.total)
    head.add_row(bar, of, _counts(state.counts), rate, duration(now - state.began))
    longest = sorted(state.running.items(), key=lambda pair: pair[1])
    lines = [_running(test, since) for test, since in longest[:MAX_RUNNING]]
    if len(longest) > MAX_RUNNING:
        lines.append(Text(f"  and {len(longest) - MAX_RUNNING} more", style="bright_black"))
    return Group(head, *lines)


def _counts(counts: Counter[str]) -> Text:
    text = Text()
    for outcome in (*PROBLEMS, "passed", "xfailed", "skipped"):
        if counts[outcome]:
            text.append(f"{SYMBOLS[outcome]} {counts[outcome]} {outcome}  ", style=COLOURS.get(outcome, "yellow"))
    return text


def _running(test: str, since: float) -> Text:
    """Return the line of a running test, with its start time.

    A duration would be wrong, because the display is not updated while a test runs.
    """
    began = time.strftime("%H:%M:%S", time.localtime(since))
    return Text.assemble(("  since ", "bright_black"), began, " ", test, no_wrap=True, overflow="ellipsis")


def failure_line(test: str, outcome: str, why: str) -> Text:
    """Return the line that is printed when a test fails: its outcome, its name and the reason."""
    return Text.assemble((f"{SYMBOLS.get(outcome, '!')} {outcome}", "bold red"), f" {test}", f": {why}" if why else "")
