"""The messages between the fork server and its clients, which are sent pickled."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """A client's request for a fork, sent together with file descriptors.

    ``work`` says what the fork has to do. ``environ`` is the complete environment of the fork. ``name`` is the module
    that ``ps`` shows as the command of the fork. If ``own_output`` is True, the first two file descriptors become
    stdout and stderr of the fork. The remaining descriptors are passed to the fork together with ``work``.

    ``branch`` is the key of a branch, or None. A branch is a process between the server and several forks. It prepares
    what these forks share, such as compiled code, and is then forked. If ``without_branch`` is True, the branch with
    this key has failed: the server ends the branch, and forks itself instead.
    """

    work: Any
    environ: Mapping[str, str]
    name: str
    own_output: bool
    branch: Hashable = None
    without_branch: bool = False


@dataclass(frozen=True)
class Forked:
    """The server's first answer: the process id of the fork, which leads a process group of its own."""

    pid: int


@dataclass(frozen=True)
class Refused:
    """The server's answer if it does not fork: the reason, as one sentence."""

    why: str


@dataclass(frozen=True)
class Ended:
    """The server's last answer: the return code of the fork, as in ``subprocess``."""

    returncode: int
