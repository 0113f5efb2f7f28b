"""The plan of a run: which tests each of its parts (``--cb-shard``) should run.

Each part of a run writes its own results file, whose header has the plan of all parts. So even if the results file of a
part is missing, its tests are known from the files of the other parts.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.utils.text import plural


@dataclass(frozen=True)
class Plan:
    """The tests of each part of a run, by node id, and digests of the files on which the outcomes depend.

    ``suites`` has a digest for each suite file together with its golden tables, by the name of the file, and a digest
    of the lists of known failures. A run without ``--cb-shard`` has one part.
    """

    parts: tuple[tuple[str, ...], ...]
    suites: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Return a SHA-256 of the plan, as hex.

        It is equal for two plans only if they have the same ``suites``, and if each part has the same tests. The order
        of the tests in a part does not matter.
        """
        data = [[sorted(part) for part in self.parts], sorted(self.suites.items())]
        return hashlib.sha256(json.dumps(data).encode()).hexdigest()

    @property
    def tests(self) -> tuple[str, ...]:
        """Return the tests of all parts."""
        return tuple(test for part in self.parts for test in part)

    def as_data(self) -> dict[str, Any]:
        """Return the plan as the fields ``plan`` and ``suites`` of the header of a results file.

        The tests of each part are grouped by suite file, so that the name of a file is written only once.
        """
        return {"plan": [_by_file(part) for part in self.parts], "suites": dict(self.suites)}


@dataclass(frozen=True)
class Missing:
    """Tests of a run, or of a part of a run, that have no result. ``tests`` is None if it is not known which they are.

    ``why`` is the beginning of a sentence about the reason, such as ``part 2 of 3 never reported``.
    """

    why: str
    tests: tuple[str, ...] | None

    @property
    def sentence(self) -> str:
        if self.tests is None:
            return f"{self.why}; it is not known which tests it should have run"
        return f"{self.why}: {plural(len(self.tests), 'test')} without a result"


def plan_from(header: Mapping[str, Any]) -> Plan | None:
    """Return the plan in the header of a results file, None if the run ended before its tests were collected."""
    if header.get("plan") is None:
        return None
    parts = tuple(
        tuple(f"{file}::{name}" if name else file for file, names in part.items() for name in names)
        for part in header["plan"]
    )
    return Plan(parts, header.get("suites", {}))


def _by_file(part: Sequence[str]) -> dict[str, list[str]]:
    files: dict[str, list[str]] = {}
    for test in part:
        file, _, name = test.partition("::")
        files.setdefault(file, []).append(name)
    return files
