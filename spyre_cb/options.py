"""The options of the harness: ``--cb-NAME`` for pytest, ``--NAME`` for ``spyre-cb run``.

Nothing of the harness is imported before an option is given that needs it.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ENGINE = "the engine under test"
CHECKS = "what is compared, with what"
PROCESSES = "how cases run"
REPORTS = "reports"
CASE_SECONDS = 300.0
"""What a case may take where nothing is said: a hundred times what the slowest one on the built-in model takes."""


@dataclass(frozen=True)
class Option:
    """``choices`` and ``type`` are called when the option is given, not before. A ``flag`` takes no value.

    A ``default`` that is a text would be parsed as if it were given: where that imports anything it is None.
    """

    name: str
    group: str
    help: str
    metavar: str | None = None
    choices: Callable[[], Sequence[str]] | None = None
    type: Callable[[str], Any] = str
    default: Any = None
    flag: bool = False
    repeated: bool = False
    former_name: str | None = None
    """What it was called before all had a prefix, where not the same."""

    @property
    def in_pytest(self) -> str:
        return f"--cb-{self.name}"

    @property
    def former(self) -> str:
        return f"--{self.former_name or self.name}"

    @property
    def dest(self) -> str:
        """The attribute of ``config.option``."""
        return f"cb_{self.name.replace('-', '_')}"

    def parsed(self, text: str) -> Any:
        """The value that was typed as ``text``. Raises argparse.ArgumentTypeError."""
        if self.choices is not None and text not in (known := self.choices()):
            raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {', '.join(known)})")
        try:
            return self.type(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    def add_to(self, add: Callable[..., Any], name: str, type_: Callable[[str], Any]) -> None:
        """Declare it with argparse, or with pytest, whose ``addoption`` is called the same."""
        if self.flag:
            add(name, dest=self.dest, action="store_true", default=self.default, help=self.help)
            return
        action = {"action": "append"} if self.repeated else {}
        metavar = self.metavar or self.name.upper().replace("-", "_")
        add(name, dest=self.dest, type=type_, default=self.default, metavar=metavar, help=self.help, **action)


def _of(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def _words(*words: str) -> Callable[[], Sequence[str]]:
    return lambda: words


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, not {text!r}")
    return int(text)


def _retries(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be a whole number of repetitions, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    """A number of seconds from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds of at least 0, not {text!r}")
    return value


OPTIONS = (
    Option(
        "driver",
        ENGINE,
        "reference (the default), simulation, vllm, openai-http or another driver that is registered",
        metavar="NAME",
        choices=lambda: _of("harness.drivers.registry", "driver_names")(),
    ),
    Option(
        "simulate",
        ENGINE,
        "step tables only, without a model: driver simulation; with driver vllm the plugin's own scheduler",
        flag=True,
        default=False,
    ),
    Option(
        "attention",
        ENGINE,
        "attention of the reference engine: paged, ours, or fms, the one that ibm-fms ships (slow, but on sendnn)",
        metavar="OP",
        choices=_words("paged", "fms"),
    ),
    Option(
        "require-hardware",
        ENGINE,
        "a test on a simulated card is an error, before anything runs",
        flag=True,
        default=False,
    ),
    Option("server-url", ENGINE, "for openai-http: a server that runs already", metavar="URL"),
    Option(
        "serve",
        ENGINE,
        "for openai-http: what to start for each case, reference or vllm",
        metavar="NAME",
        choices=lambda: tuple(_of("harness.drivers.openai_http", "STARTERS")),
    ),
    Option(
        "server-shape",
        ENGINE,
        "what that server was started with: max_num_seqs=4,backend=sendnn",
        metavar="NAME=VALUE,…",
    ),
    Option(
        "policy",
        CHECKS,
        "compare outputs by this policy where a case says none (docs/outputs.md)",
        metavar="NAME",
        choices=lambda: _of("harness.suites.schema", "POLICY_NAMES"),
    ),
    Option(
        "references",
        CHECKS,
        "reference outputs that are not in expectations/: compute them, or take only the committed ones and fail (the "
        "default where CI is set)",
        metavar="compute|committed",
        choices=_words("compute", "committed"),
    ),
    Option(
        "bless",
        CHECKS,
        "write golden step tables from what the engine does, and references",
        flag=True,
        default=False,
    ),
    Option(
        "known-failures",
        CHECKS,
        "tests that are expected to fail (default: known-failures.yaml among the suites); --runxfail: ignore it",
        metavar="FILE",
        type=Path,
    ),
    Option("max-tests", CHECKS, "let a suite expand to up to N tests", metavar="N", type=_whole),
    Option(
        "isolation",
        PROCESSES,
        "case: run each case in a process of its own (the same as --forked); engine: all cases of one engine in one "
        "process; none: everything in this one (the default)",
        metavar="case|engine|none",
        choices=_words("case", "engine", "none"),
    ),
    Option(
        "start-processes",
        PROCESSES,
        "how the processes of isolation start: fork, from one that has imported everything (the default, where that "
        "can be), or spawn, each anew",
        metavar="fork|spawn",
        choices=_words("fork", "spawn"),
        default="fork",
    ),
    Option(
        "case-timeout",
        PROCESSES,
        f"a case that takes longer is one failed case, and the run goes on (default {CASE_SECONDS:.0f}; without "
        "isolation no limit, and only with -n); 0: no limit",
        metavar="SECONDS",
        type=_seconds,
    ),
    Option(
        "shard",
        PROCESSES,
        "run part I of N parts that take as long as each other; auto: the part of this job of a job scheduler",
        metavar="I/N",
        type=lambda text: _of("harness.pytest_plugin.shards", "shard")(text),
    ),
    Option(
        "durations-from",
        PROCESSES,
        "what tests took, to cut shards by: results of a run (default: expectations/durations.json, if there)",
        metavar="FILE",
        type=Path,
        repeated=True,
    ),
    Option(
        "retries",
        PROCESSES,
        "run a case that fails again, up to N times; one that passes then is flaky, and fails the run",
        metavar="N",
        type=_retries,
        default=0,
    ),
    Option("allow-flaky", PROCESSES, "flaky tests do not fail the run", flag=True, default=False),
    Option(
        "html",
        REPORTS,
        "write one self-contained page about the run",
        metavar="FILE",
        type=Path,
        former_name="html-report",
    ),
    Option(
        "markdown",
        REPORTS,
        "add a summary to the end of that file",
        metavar="FILE",
        type=Path,
        former_name="markdown-report",
    ),
    Option("results", REPORTS, "write every result as JSON lines, as they come", metavar="FILE", type=Path),
    Option("plot", REPORTS, "draw a failed run as a time-line (the default with -s)", flag=True),
    Option(
        "no-progress",
        REPORTS,
        "no live progress, also where the output is a terminal",
        flag=True,
        default=False,
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare them all to pytest, in groups."""
    for option in OPTIONS:
        group = parser.getgroup(f"spyre-cb-{option.group.replace(' ', '-')}", f"spyre-cb: {option.group}")
        option.add_to(group.addoption, option.in_pytest, option.parsed)


FORMER = {option.former: option.in_pytest for option in OPTIONS}
"""The names that options had before they had a prefix, and what they are called now."""
