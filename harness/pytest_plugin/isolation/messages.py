"""The messages between the process that collects the tests and a child. Messages from the child are JSON."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

from harness.types import EngineSetup

SERVING = "spyre-cb-serving"
"""Name of a pytest plugin that is registered only in a child, and in the preloaded process from which it is forked.

Other modules look for this plugin to find out whether they run in one of these processes.
"""


@dataclass(frozen=True)
class Start:
    """The first message to a child, pickled: the files, options and import path of its pytest session."""

    files: tuple[str, ...]
    options: dict[str, Any]
    sys_path: tuple[str, ...]
    forks: bool
    """Whether each case runs in a fork of the child (``--cb-isolation=case``), instead of in the child itself."""
    shown: bool
    """Whether the output of cases is shown on the terminal, as with pytest's ``-s``, instead of being captured."""
    parent: Path | None = None
    """Folder with the socket of the preloaded process that forked the child, None if the child is not a fork of it.

    The preloaded process can also fork servers.
    """
    branch: "Branch | None" = None
    """The branch (see ``Branch``) that forked the child, None if the preloaded process itself or no process did."""


@dataclass(frozen=True)
class Serve:
    """The first message to a fork that is to run a server of the reference engine, with the server's arguments."""

    argv: tuple[str, ...]


@dataclass(frozen=True)
class Branch:
    """The key of a branch: a fork of the preloaded process that is forked again, once for each of several engines.

    These engines have the same ``compile_key``. The branch starts an engine with ``setup``, the setup of the first of
    these engines, so that the forks of the branch inherit the compiled code.
    """

    compile_key: Hashable
    setup: EngineSetup = field(compare=False)


class Word(TypedDict, total=False):
    """A message from a child. ``word`` is the kind of the message:

    - ``ready``: the child has collected the tests
    - ``running``: a case has started in the process ``pid``
    - ``opening``: the child starts an engine
    - ``opened``: the engine has been started, or could not be started
    - ``reports``: the case has ended; ``reports`` has pytest's reports
    - ``missing``: the child has not collected the requested test
    - ``died``: the fork that ran the case has crashed; ``returncode`` is as in ``subprocess``
    """

    word: Literal["ready", "running", "opening", "opened", "reports", "missing", "died"]
    pid: int
    reports: list[dict[str, Any]]
    returncode: int


@dataclass(frozen=True)
class Done:
    """The result of a case that was run to its end. ``reports`` are pytest's reports, as JSON types."""

    reports: list[dict[str, Any]]


@dataclass(frozen=True)
class Broken:
    """The result of a case that was not run to its end.

    ``what`` is a sentence that says why, and ``more`` are further lines of text. ``stdout`` and ``stderr`` are the
    output of the case.
    """

    what: str
    more: tuple[str, ...] = ()
    stdout: str = ""
    stderr: str = ""
