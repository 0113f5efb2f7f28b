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

    A branch is a fork of the server that prepares what several forks share, such as compiled code, and that is then
    forked in place of the server. ``branch`` is the key of the branch to fork, None to fork the server itself. If
    ``without_branch`` is True, the branch with this key has failed: the server ends the branch, and forks itself.
    """

    work: Any
    environ: Mapping[str, str]
    name: str
    own_output: bool
    branch: Hashable = None
    without_branch: bool = False


@dataclass(frozen=True)
class Forked:
    """The fork server's first answer to a request: the id of the forked process, which leads its own process group."""

    pid: int


@dataclass(frozen=True)
class Refused:
    """The server's answer if it does not fork: the reason, as one sentence."""

    why: str


@dataclass(frozen=True)
class Ended:
    """The server's last answer: the return code of the fork, as in ``subprocess``."""

    returncode: int
