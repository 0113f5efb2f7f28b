"""The option ``--cb-shard 2/5``: run one of five parts of the tests.

The tests are divided by their recorded durations, so that all parts take about the same time. The division is the same
in every run. This module is also a program that extracts durations from results files: ``python -m
harness.pytest_plugin.shards RESULTS… > expectations/durations.json``.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from harness.pytest_plugin.isolation.grouping import by_engine
from harness.pytest_plugin.shard_environment import part_of_this_job
from harness.report.reading import ResultsError, read_run
from harness.utils.files import read_open
from harness.utils.json_objects import RepeatedKeyError, unique_keys
from harness.utils.text import plural

RECORDED = Path("expectations", "durations.json")
"""Path of the file with the recorded durations, relative to pytest's root folder, if no option names another file."""
SHORTEST = 0.001


@dataclass(frozen=True)
class Shard:
    """One part of the tests: part ``number``, counted from 1, of ``of`` parts."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def shard(text: str) -> Shard:
    """Convert the value of ``--cb-shard``, such as ``2/5``. With ``auto``, a job scheduler determines the part.

    Raises argparse.ArgumentTypeError if the value has another form, or if there is no such part.
    """
    if text == "auto":
        return Shard(*part_of_this_job(os.environ))
    number, _, of = text.partition("/")
    if not (number.isascii() and number.isdecimal() and of.isascii() and of.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be a part and the number of parts, such as 2/5, or auto, not {text!r}")
    if not 1 <= int(number) <= int(of):
        raise argparse.ArgumentTypeError(
            f"{text}: the part must be from 1 to {of}" if int(of) else f"{text}: the number of parts must be at least 1"
        )
    return Shard(int(number), int(of))


def cut(seconds: Sequence[float], parts: int) -> list[int]:
    """Divide tests into ``parts`` parts of similar duration. Return the number of each test's part, counted from 1.

    ``seconds`` has the expected duration of each test. A part consists of consecutive tests. The tests are placed one
    after the other on a time axis, which is cut into ``parts`` equal sections. A test is in the part whose section
    contains the middle of the test. So the duration of a part differs from the average of all parts by at most the
    duration of the longest test.
    """
    total, passed, result = sum(seconds), 0.0, []
    for each in seconds:
        middle = passed + each / 2
        result.append(min(parts, 1 + int(parts * middle / total)))
        passed += each
    return result


def expected(names: Sequence[str], recorded: Mapping[str, float]) -> list[float]:
    """Return the expected duration of each test in seconds.

    It is the recorded duration of the test or, if there is none, the median of all recorded durations.
    """
    known = [recorded[name] for name in names if name in recorded]
    default = median(known) if known else 1.0
    return [max(SHORTEST, recorded.get(name, default)) for name in names]


def read_durations(file: Path) -> dict[str, float]:
    """Return the duration of each test in seconds, from a results file or from a file that this module has written.

    Raises OSError if the file can't be read, and ValueError if its content is wrong. The message is what is wrong; for
    a results file, the error is a ResultsError, whose message also has the path of the file.
    """
    if file.suffix == ".jsonl":
        return {str(result["test"]): float(result.get("seconds", 0.0)) for result in read_run(file).results}
    try:
        recorded = json.loads(read_open(file).decode("utf-8"), object_pairs_hook=unique_keys)
    except RepeatedKeyError as error:
        what = f"{error.key} occurs twice, so its duration is not clear; keep one of them"
        raise ValueError(what) from error
    except (ValueError, RecursionError):
        recorded = None
    if not isinstance(recorded, dict):
        raise ValueError("this is neither a results file nor a JSON object with the seconds of each test")
    for name, seconds in recorded.items():
        # Python's JSON also has infinite numbers, and integers that are too large for ``float``.
        if type(seconds) not in (int, float) or not 0 <= seconds <= sys.float_info.max:
            raise ValueError(f"the duration of {name} is not a number of seconds, but {json.dumps(seconds)[:40]}")
    return {name: float(seconds) for name, seconds in recorded.items()}


class Sharding:
    """A pytest plugin in every process that collects tests: deselects the tests of the other parts."""

    def __init__(self, config: pytest.Config, wanted: Shard, files: Sequence[Path]) -> None:
        self._config = config
        self.wanted = wanted
        self.parts: list[list[str]] = [[] for _ in range(wanted.of)]
        """The names of the tests of each part, after the tests were collected."""
        recorded = config.rootpath / RECORDED
        self._recorded: dict[str, float] = {}
        for file in files or ([recorded] if recorded.is_file() else []):
            try:
                self._recorded |= read_durations(file)
            except ResultsError as error:
                raise pytest.UsageError(f"--cb-durations-from {error}") from error
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or str(error)
                raise pytest.UsageError(f"--cb-durations-from {file}: {why}") from error
        self._summary = self._summary_of_worker = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # Sort by name first, because the order of the items can depend on which tests failed last on this machine.
        names = [item.nodeid for item in by_engine(sorted(items, key=lambda item: item.nodeid))]
        for name, part in zip(names, cut(expected(names, self._recorded), self.wanted.of), strict=True):
            self.parts[part - 1].append(name)
        chosen = set(self.parts[self.wanted.number - 1])
        out = [item for item in items if item.nodeid not in chosen]
        self._summary = f"shard {self.wanted}: {len(items) - len(out)} of {plural(len(items), 'test')}"
        items[:] = [item for item in items if item.nodeid in chosen]
        if out:
            self._config.hook.pytest_deselected(items=out)
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput["spyre_cb_shard"] = self._summary

    def pytest_report_header(self) -> str:
        return f"shard {self.wanted}"

    def pytest_report_collectionfinish(self) -> str:
        return self._summary

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Store the line about the selected tests that one of xdist's workers has sent, to print it at the end.

        With xdist, the controller does not collect tests, so it can't count the selected tests itself.
        """
        self._summary_of_worker = getattr(node, "workeroutput", {}).get("spyre_cb_shard", self._summary_of_worker)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._summary_of_worker:
            terminalreporter.write_line(self._summary_of_worker)


def main(arguments: Sequence[str]) -> int:
    """Print the duration of each test in seconds, as a JSON object. Return exit status 0.

    ``arguments`` are paths of results files. If several have the same test, the duration in the last one is used.
    """
    durations: dict[str, float] = {}
    for argument in arguments:
        durations |= read_durations(Path(argument))
    rows = (f"{json.dumps(name)}: {max(SHORTEST, seconds):.3g}" for name, seconds in sorted(durations.items()))
    print("{\n" + ",\n".join(rows) + "\n}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
