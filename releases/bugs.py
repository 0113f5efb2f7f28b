"""Read releases/bugs.yaml, the historical bugs of the plugins, and compare it with the kept results."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from releases.kept import Kept

TABLE = Path(__file__).with_name("bugs.yaml")


class BugsError(ValueError):
    """The table says what the kept results do not show. The message is one sentence."""


@dataclass(frozen=True)
class Bug:
    """A bug of a plugin that a pull request mended.

    ``pull`` is its number. ``wrong`` says in a sentence what was wrong, ``mended`` the first release without the bug.
    ``before`` and ``after`` name kept results with and without the bug, and ``cases`` the cases that fail in the first
    and pass in the second. If there are none, ``unseen`` says why the bug can't be seen.
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
        """Return whether the fault was put back into a release, because no release that can be installed has it."""
        return "+" in self.before


def read_bugs(path: Path = TABLE) -> list[Bug]:
    """Return the bugs in the order of the file. Raises BugsError for an entry that is neither caught nor explained."""
    bugs = [Bug(**{**entry, "cases": tuple(entry.get("cases", ()))}) for entry in yaml.safe_load(path.read_text())]
    for bug in bugs:
        if bool(bug.cases) == bool(bug.unseen):
            raise BugsError(f"{path.name}: pull {bug.pull} needs either cases or the reason why it is unseen")
    return bugs


def check(bug: Bug, kept: Mapping[str, Kept]) -> None:
    """Check that each case of a bug failed before and passed after it was mended. Raises BugsError."""
    for case in bug.cases:
        for name, wanted in ((bug.before, "failed"), (bug.after, "passed")):
            found = kept[name].outcome(case) if name in kept else None
            if found != wanted:
                raise BugsError(f"pull {bug.pull}: {case} is {found or 'not there'} in {name}, and not {wanted}")
