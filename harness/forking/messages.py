"""Messages between a process that requests a fork and the forking process, pickled."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """A request for a fork, sent with file descriptors.

    First stdout and stderr if ``own_output``, then those for ``work``. ``environ`` is the fork's whole environment. A
    ``branch`` is an intermediate process, prepared with what its forks share; ``without_branch`` ends a branch that
    could not be used.
    """

    work: Any
    environ: Mapping[str, str]
    name: str
    own_output: bool
    branch: Hashable = None
    without_branch: bool = False


@dataclass(frozen=True)
class Forked:
    """First answer: the process id of the fork, which is the leader of a process group."""

    pid: int


@dataclass(frozen=True)
class Refused:
    """Instead of ``Forked``: why there is no fork, as one sentence."""

    why: str


@dataclass(frozen=True)
class Ended:
    """Last answer: the return code, as in ``subprocess``."""

    returncode: int
