"""What goes between the process that collects and the one that runs cases. Answers are JSON: builtins and no more."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

from harness.types import EngineSetup

SERVING = "spyre-cb-serving"
"""The name of the plugin by which a session of pytest knows that it only runs what it is asked for."""


@dataclass(frozen=True)
class Start:
    """To the child, first, pickled: the pytest session that it is to be, as files, options and import path."""

    files: tuple[str, ...]
    options: dict[str, Any]
    sys_path: tuple[str, ...]
    forks: bool
    """Whether each case gets a fork of the child, rather than the child itself."""
    shown: bool
    """Whether what is printed is shown as it comes, and not kept for the reports."""
    parent: Path | None = None
    """The folder of the process that it was forked from, which forks servers, too; None where it was spawned."""
    branch: "Branch | None" = None
    """The branch of that process that it was forked from, if any."""


@dataclass(frozen=True)
class Serve:
    """To a fork of the preloaded process, in place of a ``Start``: be the reference engine's server."""

    argv: tuple[str, ...]


@dataclass(frozen=True)
class Branch:
    """A process between the preloaded one and those of engines that have ``compile_key`` in common.

    An engine of ``setup``, the first of them, is started in it; the others inherit what it had compiled.
    """

    compile_key: Hashable
    setup: EngineSetup = field(compare=False)


class Word(TypedDict, total=False):
    """From the child: a word, and what goes with it.

    ``ready`` it has collected; ``running`` a case, in the process ``pid``; ``opening`` and ``opened`` an engine;
    ``reports`` of the case; ``missing``: there is no such test; ``died``: the fork that ran the case, with what
    ``subprocess`` would call its ``returncode``.
    """

    word: Literal["ready", "running", "opening", "opened", "reports", "missing", "died"]
    pid: int
    reports: list[dict[str, Any]]
    returncode: int


@dataclass(frozen=True)
class Done:
    """A case ran to its end: pytest's reports of it, as builtins."""

    reports: list[dict[str, Any]]


@dataclass(frozen=True)
class Broken:
    """A case that did not come to its end: what happened in a line, more about it, and what was printed before."""

    what: str
    more: tuple[str, ...] = ()
    stdout: str = ""
    stderr: str = ""
