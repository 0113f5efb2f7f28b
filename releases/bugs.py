"""Read releases/bugs.yaml, the historical bugs of the plugins, and compare it with the kept results of releases."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from releases.kept import Kept

TABLE = Path(__file__).with_name("bugs.yaml")


class BugsError(ValueError):
    """releases/bugs.yaml has an invalid entry, or the kept results contradict an entry. The message is one sentence."""


@dataclass(frozen=True)
class Bug:
    """A bug of a plugin that a pull request fixed.

    ``pull`` is the number of the pull request. ``wrong`` says in a sentence what was wrong. ``mended`` is the first
    release without the bug. ``before`` and ``after`` are names of stored results of releases: ``before`` has the bug,
    and ``after`` does not. ``cases`` are the ids of cases that fail in ``before`` and pass in ``after``. If no case
    shows the bug, ``cases`` is empty and ``unseen`` says why.
    """

    pull: int
    wrong: str
    mended: str
    before: str = ""
    after: str = ""
    cases: tuple[str, ...] = ()
    unseen: str = ""

    @property
    def is_rebuilt(self) -> bool:
        """Return whether ``before`` is a release without the bug into which the bug was put back.

        A bug is put back into a release if no release that can be installed has the bug.
        """
        return "+" in self.before


def read_bugs(path: Path = TABLE) -> list[Bug]:
    """Return the bugs in the order of the file.

    Raises BugsError for an entry that has neither ``cases`` nor ``unseen``, or both.
    """
    bugs = [Bug(**{**entry, "cases": tuple(entry.get("cases", ()))}) for entry in yaml.safe_load(path.read_text())]
    for bug in bugs:
        if bool(bug.cases) == bool(bug.unseen):
            raise BugsError(
                f"{path.name}: pull {bug.pull} must have either cases that show the bug, "
                "or unseen, the reason why no case shows it"
            )
    return bugs


def check(bug: Bug, kept: Mapping[str, Kept]) -> None:
    """Check that the cases of a bug show it. ``kept`` has the kept results by name.

    Raises BugsError unless each case failed in ``bug.before`` and passed in ``bug.after``.
    """
    for case in bug.cases:
        for name, wanted in ((bug.before, "failed"), (bug.after, "passed")):
            found = kept[name].outcome(case) if name in kept else None
            if found != wanted:
                raise BugsError(
                    f"pull {bug.pull}: the outcome of {case} in the kept results {name} must be {wanted}, "
                    f"but is {found or 'missing'}"
                )
