"""What goes between a process that wants a fork and the one that is forked from, pickled."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """For a fork. File descriptors go with it: stdout and stderr first where ``own_output``, then those of ``work``.

    ``environ`` is all of the fork's environment. A ``branch`` is a process in between that is prepared for what its
    forks have in common; ``without_branch`` ends it, where it proved to be of no use.
    """

    work: Any
    environ: Mapping[str, str]
    name: str
    own_output: bool
    branch: Hashable = None
    without_branch: bool = False


@dataclass(frozen=True)
class Forked:
    """First: the process id of the fork, which leads a process group."""

    pid: int


@dataclass(frozen=True)
class Refused:
    """Instead: why there is no fork, in a sentence."""

    why: str


@dataclass(frozen=True)
class Ended:
    """Last: what ``subprocess`` would call its return code."""

    returncode: int
