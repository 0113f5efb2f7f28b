"""The options of the harness, which are ``--cb-NAME`` in pytest and ``--NAME`` in ``spyre-cb run``.

The harness is imported only if the value of a given option needs it.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ENGINE = "the engine under test"
CHECKS = "checks and expectations"
PROCESSES = "how cases run"
REPORTS = "reports"
CASE_SECONDS = 300.0
"""Default timeout of a case in seconds. It is a hundred times what the slowest case takes on the built-in model."""


@dataclass(frozen=True)
class Option:
    """An option of the harness.

    ``group`` is the heading of the option in ``pytest --help``. ``choices`` is a function that returns the allowed
    values, and ``type`` is a function that converts a value. Both functions are called only if the option is given. A
    ``flag`` takes no value. A ``repeated`` option can be given more than once. ``default`` must not be a string if
    ``choices`` or ``type`` import modules, because argparse calls ``type`` for a default that is a string.
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
    """The name of the option in earlier versions, without ``--``. None means that the option had the same name."""

    @property
    def in_pytest(self) -> str:
        return f"--cb-{self.name}"

    @property
    def former(self) -> str:
        return f"--{self.former_name or self.name}"

    @property
    def dest(self) -> str:
        """Return the name of this option's attribute in ``config.option``."""
        return f"cb_{self.name.replace('-', '_')}"

    def parsed(self, text: str) -> Any:
        """Convert ``text``, a value on the command line, with ``type``.

        Raises argparse.ArgumentTypeError if ``text`` is not in ``choices``, or if it cannot be converted.
        """
        if self.choices is not None and text not in (known := self.choices()):
            raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {', '.join(known)})")
        try:
            return self.type(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    def add_to(self, add: Callable[..., Any], name: str, type_: Callable[[str], Any]) -> None:
        """Add the option to a parser with ``add``, which is argparse's ``add_argument`` or pytest's ``addoption``.

        ``name`` is the option as users type it, such as ``--cb-driver``. ``type_`` is a function that converts a value.
        """
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


def _from_one(text: str) -> int:
    """Convert a number of at least 1. Raises argparse.ArgumentTypeError for other values."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"must be at least 1, and a whole number, not {text!r}")
    return int(text)


def _named(text: str) -> Path:
    """Convert the path of a file. Raises argparse.ArgumentTypeError for the empty string, which would be the folder."""
    if not text:
        raise argparse.ArgumentTypeError("must be the name of a file, not ''")
    return Path(text)


def _retries(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    """Convert a number of seconds. Raises argparse.ArgumentTypeError unless it is finite and at least 0."""
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
        "the driver: reference (the default), simulation, vllm, openai-http, or one that another package registers",
        metavar="NAME",
        choices=lambda: _of("harness.drivers.registry", "driver_names")(),
    ),
    Option(
        "simulate",
        ENGINE,
        "check step tables only, without running a model (with the driver reference or vllm)",
        flag=True,
        default=False,
    ),
    Option(
        "attention",
        ENGINE,
        "attention kernel of the reference engine: paged is its own, fms is that of ibm-fms (slow, except on sendnn)",
        metavar="OP",
        choices=_words("paged", "fms"),
    ),
    Option(
        "require-hardware",
        ENGINE,
        "end the run with an error if a test would run on a simulated card",
        flag=True,
        default=False,
    ),
    Option("server-url", ENGINE, "for the driver openai-http: URL of a running server", metavar="URL"),
    Option(
        "serve",
        ENGINE,
        "for the driver openai-http: the kind of server to start, reference or vllm",
        metavar="NAME",
        choices=lambda: tuple(_of("harness.drivers.openai_http", "STARTERS")),
    ),
    Option(
        "server-shape",
        ENGINE,
        "settings of the server at --cb-server-url that it does not report, such as max_num_seqs=4,backend=sendnn",
        metavar="NAME=VALUE,…",
    ),
    Option(
        "policy",
        CHECKS,
        "policy for comparing the outputs of cases that do not name one (docs/outputs.md)",
        metavar="NAME",
        choices=lambda: _of("harness.suites.schema", "POLICY_NAMES"),
    ),
    Option(
        "references",
        CHECKS,
        "compute: compute reference outputs that are missing in expectations/ (the default); committed: fail if any "
        "are missing (the default if the environment variable CI is set)",
        metavar="compute|committed",
        choices=_words("compute", "committed"),
    ),
    Option(
        "bless",
        CHECKS,
        "write the steps of the engine as golden step tables, and write reference outputs",
        flag=True,
        default=False,
    ),
    Option(
        "known-failures",
        CHECKS,
        "list of tests that are expected to fail (default: the nearest known-failures.yaml next to or above each "
        "suite)",
        metavar="FILE",
        type=_named,
    ),
    Option(
        "max-tests",
        CHECKS,
        "maximum number of tests of a suite, instead of its own max_tests",
        metavar="N",
        type=_from_one,
    ),
    Option(
        "isolation",
        PROCESSES,
        "case: run each case in a process of its own, as with --forked; engine: run all cases of an engine in one "
        "process; none: run all cases in pytest's process (the default)",
        metavar="case|engine|none",
        choices=_words("case", "engine", "none"),
    ),
    Option(
        "start-processes",
        PROCESSES,
        "how --cb-isolation starts processes: fork: as forks of a process that has imported all modules (the default, "
        "if possible); spawn: as new processes",
        metavar="fork|spawn",
        choices=_words("fork", "spawn"),
        default="fork",
    ),
    Option(
        "case-timeout",
        PROCESSES,
        f"let a case fail if it takes longer than this (default with --cb-isolation: {CASE_SECONDS:.0f}; 0: no limit); "
        "without --cb-isolation, -n is needed",
        metavar="SECONDS",
        type=_seconds,
    ),
    Option(
        "shard",
        PROCESSES,
        "divide the tests into N shards, which take about the same time, and run only shard I; auto: take I and N from "
        "the job scheduler",
        metavar="I/N",
        type=lambda text: _of("harness.pytest_plugin.shards", "shard")(text),
    ),
    Option(
        "durations-from",
        PROCESSES,
        "results file with the durations of tests, for --cb-shard (default: expectations/durations.json if it exists)",
        metavar="FILE",
        type=_named,
        repeated=True,
    ),
    Option(
        "retries",
        PROCESSES,
        "run a failed case again, up to N times; a case that then passes is reported as flaky, and the run fails",
        metavar="N",
        type=_retries,
        default=0,
    ),
    Option("allow-flaky", PROCESSES, "do not let flaky tests fail the run", flag=True, default=False),
    Option(
        "html",
        REPORTS,
        "write a self-contained HTML page about the run",
        metavar="FILE",
        type=_named,
        former_name="html-report",
    ),
    Option(
        "markdown",
        REPORTS,
        "append a summary in Markdown to this file",
        metavar="FILE",
        type=_named,
        former_name="markdown-report",
    ),
    Option("results", REPORTS, "write each result as a JSON line when its test ends", metavar="FILE", type=_named),
    Option(
        "resume",
        REPORTS,
        "continue the run of the file of --cb-results: keep its results, and run the tests that have none",
        flag=True,
        default=False,
    ),
    Option("plot", REPORTS, "show a text time-line of each failed case (the default with -s)", flag=True),
    Option(
        "no-progress",
        REPORTS,
        "do not show live progress on a terminal",
        flag=True,
        default=False,
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Add all options to pytest's parser, in groups."""
    for option in OPTIONS:
        group = parser.getgroup(f"spyre-cb-{option.group.replace(' ', '-')}", f"spyre-cb: {option.group}")
        option.add_to(group.addoption, option.in_pytest, option.parsed)


FORMER = {option.former: option.in_pytest for option in OPTIONS}
"""The names of options in earlier versions, without the prefix ``--cb-``, each with its present name."""
