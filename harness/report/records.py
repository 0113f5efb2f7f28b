"""Fill in missing fields of records, which are the lines of a results file.

The record of a test that was skipped, or whose process died, has little more than the name of the test. Its other
fields are taken from the name, and from records of the same case in other configurations.
"""

import re
from collections.abc import Sequence

from harness.report.outcomes import Record

_OF_THE_CASE = ("kind", "suite", "about", "requirements", "described", "place", "source", "source_line")
_TEST_NAME = re.compile(r"(?P<case>.*?)(\[(?P<configuration>.*)\])?", re.DOTALL)


def completed(results: Sequence[Record]) -> list[Record]:
    """Return the records of all tests, with missing fields filled in from the test's name and from similar records."""
    named = [{**_from_name(str(record.get("test", ""))), **record} for record in results]
    suites = {record["file"]: record["suite"] for record in named if "suite" in record}
    cases = {(r["file"], r["case"]): {k: r[k] for k in _OF_THE_CASE if k in r} for r in named if "source" in r}
    return [{"suite": suites.get(r["file"], r["file"]), **cases.get((r["file"], r["case"]), {}), **r} for r in named]


def _from_name(test: str) -> dict[str, str]:
    """Return the fields ``file``, ``case`` and ``configuration`` of a test named ``file::case[configuration]``.

    The record of a file that could not be collected has only the name of the file. Then ``case`` is this name as well.
    """
    file, _, name = test.partition("::")
    match = _TEST_NAME.fullmatch(name) if file.endswith((".yaml", ".yml")) else None
    if match is None:
        return {"file": file, "case": name or file, "configuration": ""}
    return {"file": file, "case": match["case"] or file, "configuration": match["configuration"] or ""}
