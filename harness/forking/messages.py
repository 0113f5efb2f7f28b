"""The messages between the fork server and its clients, which are sent pickled."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """A client's request for a fork, sent together with file descriptors.

    With ``own_output``, the first two descriptors are the fork's stdout and stderr. The other descriptors are passed to
    the fork together with ``work``, which says what the fork has to do. ``environ`` is the complete environment of the
    fork, and ``name`` the module that process lists show for it. ``branch`` is the key of a branch, a process between
    the server and its forks that prepares what the forks share, such as compiled code. With ``without_branch``, the
    server forks directly, and ends the branch of this key because it has failed.
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
