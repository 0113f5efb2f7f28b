"""Messages between the collecting process and a process that runs cases. Answers are JSON."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

from harness.types import EngineSetup

SERVING = "spyre-cb-serving"
"""Name of the plugin whose presence marks a pytest session that runs requested tests only."""


@dataclass(frozen=True)
class Start:
    """The first message to the child, pickled: its pytest session, as files, options and import path."""

    files: tuple[str, ...]
    options: dict[str, Any]
    sys_path: tuple[str, ...]
    forks: bool
    """Whether each case runs in a fork of the child, instead of in the child itself."""
    shown: bool
    """Whether output goes to the terminal, instead of being captured for the reports."""
    parent: Path | None = None
    """The folder of the process that forked the child, and forks servers, too; None if it was spawned."""
    branch: "Branch | None" = None
    """The branch of that process that forked the child, if any."""


@dataclass(frozen=True)
class Serve:
    """Message to a fork of the preloaded process, instead of ``Start``: run the reference engine's server."""

    argv: tuple[str, ...]


@dataclass(frozen=True)
class Branch:
    """A process between the preloaded one and those of engines that have ``compile_key`` in common.

    An engine of ``setup``, the first of them, is started in it; the others inherit its compiled code.
    """

    compile_key: Hashable
    setup: EngineSetup = field(compare=False)


class Word(TypedDict, total=False):
    """A message from the child: its name and data.

    ``ready``: tests are collected; ``running``: a case started in the process ``pid``; ``opening`` and ``opened``: an
    engine; ``reports`` of the case; ``missing``: the test does not exist; ``died``: the fork that ran the case ended,
    with ``returncode`` as in ``subprocess``.
    """

    word: Literal["ready", "running", "opening", "opened", "reports", "missing", "died"]
    pid: int
    reports: list[dict[str, Any]]
    returncode: int


@dataclass(frozen=True)
class Done:
    """A case that was run: pytest's reports about it, as builtins."""

    reports: list[dict[str, Any]]


@dataclass(frozen=True)
class Broken:
    """A case that was not finished: a line about what happened, further lines, and its output."""

    what: str
    more: tuple[str, ...] = ()
    stdout: str = ""
    stderr: str = ""
