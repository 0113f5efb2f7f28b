"""``spyre-cb cases``: list the cases of suites with the tests that pytest would run for them.

This command does not import torch, so it takes less than a second.
"""

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from checkpoints import test_models
from harness.cli.arguments import CommandError, Subparsers, add_command, add_selection
from harness.suites.discovery import suite_files
from harness.suites.expand import Expanded, TooManyTestsError, expand
from harness.suites.loader import LoadedSuite, load_suite
from harness.suites.markers import MARKERS, explain_unknown, left_out
from harness.utils.text import plural

_EXAMPLES = """\
  spyre-cb cases --marker cpu --marker scheduler_steps
  spyre-cb cases suites/output --json
"""


@dataclass(frozen=True)
class Listed:
    """One test, that is, one case in one configuration."""

    loaded: LoadedSuite
    expanded: Expanded

    @property
    def markers(self) -> tuple[str, ...]:
        """Return the markers of the test, with ``simulated`` if the reference engine runs it on a simulated card."""
        backend = self.expanded.configuration.backend
        from harness.drivers.reference import reference_label  # imports the engine

        simulated = {"simulated"} if reference_label(backend) != backend else set()
        return tuple(sorted({*self.expanded.markers(self.loaded.suite), *simulated}))

    def as_data(self) -> dict[str, Any]:
        """Convert the test to a dict of JSON types."""
        case, configuration = self.expanded.case, self.expanded.configuration
        return {
            "suite": self.loaded.suite.suite,
            "id": case.id,
            "configuration": configuration.label,
            "model": configuration.model,
            "backend": configuration.backend,
            "markers": list(self.markers),
            "requirements": list(case.requirement),
            "about": case.about,
            "limits": self.expanded.limits.model_dump(exclude_none=True),
            "described": case.described(),
            "file": str(self.loaded.path),
            "line": self.loaded.line_of_case(self.expanded.index),
        }


def add_to(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "cases", run, "list the tests that a selection would run", _EXAMPLES)
    add_selection(parser, "tests")
    parser.add_argument("--json", action="store_true", help="print a JSON object with counts and tests")


def run(arguments: Namespace) -> int:
    """Print the selected tests."""
    tests = list(listed_tests(suite_files(arguments.paths)))
    marked = with_markers(tests, arguments.marker)
    reasons = [left_out(test.markers, " ".join(arguments.marker)) for test in marked]
    chosen = [test for test, reason in zip(marked, reasons, strict=True) if reason is None]
    out = Counter(filter(None, reasons))
    if arguments.json:
        listed = {"counts": _counts(chosen) | {"left_out": dict(out)}, "tests": [test.as_data() for test in chosen]}
        print(json.dumps(listed, indent=1, ensure_ascii=False))
        return 0
    for line in _lines(chosen):
        print(line)
    for name, count in sorted(out.items()):
        print(f"deselected: {plural(count, f'{name} test')}; to list them:  --marker {name}")
    return 0


def listed_tests(files: Sequence[Path]) -> Iterator[Listed]:
    """Yield every test of the suite files ``files``.

    Raises SuiteError if a suite has mistakes, and CommandError if a suite expands to more tests than its ``max_tests``.
    """
    models = test_models()
    for file in files:
        loaded = load_suite(file)
        try:
            expanded = expand(loaded.suite, models)
        except TooManyTestsError as error:
            raise CommandError(f"{file}: {error}") from error
        yield from (Listed(loaded, test) for test in expanded)


def with_markers(tests: Sequence[Listed], markers: Sequence[str]) -> list[Listed]:
    """Return the tests that have all of the markers ``markers``.

    Raises CommandError for an unknown marker, and if no test has all of these markers.
    """
    known = {*MARKERS, *(name for test in tests for name in test.markers)}
    for marker in markers:
        if len(marker.split()) != 1:
            raise CommandError(
                f"--marker takes one name, not {marker!r}; for tests with several markers, repeat --marker"
            )
    unknown = [marker for marker in markers if marker not in known]
    if unknown:
        raise CommandError(explain_unknown(unknown, known).replace("-m:", "--marker:", 1))
    chosen = [test for test in tests if set(markers) <= set(test.markers)]
    if not chosen:
        raise CommandError(f"none of the {len(tests)} tests has the markers {' and '.join(markers)}")
    return chosen


def _counts(tests: Sequence[Listed]) -> dict[str, int]:
    return {
        "suites": len({test.loaded.path for test in tests}),
        "cases": len({(test.loaded.path, test.expanded.case.id) for test in tests}),
        "tests": len(tests),
    }


def _lines(tests: Sequence[Listed]) -> Iterator[str]:
    """Yield the lines of the list, grouped by suite and case. The last line counts suites, cases and tests."""
    for path, group in groupby(tests, key=lambda test: test.loaded.path):
        in_suite = list(group)
        cases = {test.expanded.index: test.expanded.case for test in in_suite}
        counted = f"{plural(len(cases), 'case')}, {plural(len(in_suite), 'test')}"
        yield f"{in_suite[0].loaded.suite.suite}  ({path}): {counted}"
        for index, case in cases.items():
            yield f"  {case.id}" + (f"  {' '.join(case.requirement)}" if case.requirement else "")
            yield from (f"    {line}" for line in case.described().splitlines())
            for test in in_suite:
                if test.expanded.index == index:
                    yield f"    [{test.expanded.configuration.label}]  {' '.join(test.markers)}"
        yield ""
    counts = _counts(tests)
    yield ", ".join(plural(counts[f"{name}s"], name) for name in ("suite", "case", "test"))
