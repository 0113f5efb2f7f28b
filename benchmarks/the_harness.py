"""Measure the overhead of the harness: import, collection, time per case, and reports.

    python benchmarks/the_harness.py [--json FILE]

Suites with ten thousand tests are generated in a temporary folder and simulated. Each measurement is of a whole command
in its own process, and alternates with the command that it is compared with. Memory is the peak of the command.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import Metric, in_turn, medians, parser_of, report

ROOT = Path(__file__).resolve().parents[1]
SUITES, CASES, CONFIGURATIONS = 50, 50, 4
TESTS = SUITES * CASES * CONFIGURATIONS
RUN = 6  # number of suites that are run
IMPORT_HARNESS = "import sys, pytest, harness.pytest_plugin.session; sys.exit('torch' in sys.modules)"
HEAD = """\
suite: many/s{}
kind: scheduler_steps
about: Many.
markers: [cb]
parameters: {{max_num_seqs: [1, 2, 3, 4]}}
cases:
"""
CASE = """\
  - id: case-{}-{}
    about: A prompt of a block and three tokens.
    requests:
      - {{prompt: {{random_tokens: {}}}, max_tokens: 3}}
    expect:
      output: none
      steps:
        - [0,  0, [0], [],  [],  [],  0, 0]
        - [1, 64, [],  [0], [0], [],  2, 1]
        - [2, 65, [],  [0], [0], [],  2, 2]
        - [3, 66, [],  [],  [0], [0], 2, 2]
        - [4,  0, [],  [],  [],  [],  0, 0]
"""


def write_suites(folder: Path) -> None:
    for suite in range(SUITES):
        cases = (CASE.format(suite, i, 1 + i % 64) for i in range(CASES))
        (folder / f"s{suite:02}.yaml").write_text(HEAD.format(suite) + "".join(cases), encoding="utf-8")


def python(*arguments: object) -> None:
    """Run a Python process and discard its output. Raises CalledProcessError if the process fails."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, env=environ, check=True, stdout=subprocess.DEVNULL)


def pytest(*arguments: object) -> None:
    python("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)


def peak_megabytes(run: Callable[[], None]) -> float:
    """Call ``run``, which runs a process, and return the peak memory in MiB of the largest process so far.

    The system only reports the peak of the largest process so far, so smaller processes must be measured first.
    """
    run()
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def made_many(results: Path, tests: int) -> Path:
    """Write a results file of ``tests`` tests, which repeats the tests of the file ``results``, and return its path."""
    first, *records, last = results.read_text(encoding="utf-8").splitlines()
    tests_of_run = [json.loads(record) for record in records]
    file = results.with_name("many.jsonl")
    with file.open("w", encoding="utf-8") as out:
        print(first, file=out)
        for number in range(tests):
            record = tests_of_run[number % len(tests_of_run)]
            print(json.dumps(record | {"test": f"{record.get('test')}-{number}"}), file=out)
        print(last, file=out)
    return file


def main() -> None:
    began = time.perf_counter()
    arguments = parser_of(__doc__, 3).parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_suites(folder)
        metrics = measured(folder, arguments.repeat)
    report("Overhead of the harness", metrics, arguments.json, began=began)


def measured(folder: Path, repeat: int) -> list[Metric]:
    every, some = [folder], sorted(folder.glob("*.yaml"))[:RUN]
    less = peak_megabytes(lambda: pytest("--collect-only", *some))
    more = peak_megabytes(lambda: pytest("--collect-only", *every))
    results = folder / "results.jsonl"
    reports = ("--html", folder / "page.html", "--junit", folder / "junit.xml", "--markdown", folder / "summary.md")
    pytest("--cb-simulate", "--cb-results", results, *some)
    many = made_many(results, TESTS)
    ways: Mapping[str, Callable[[], object]] = {
        "import pytest": lambda: python("-c", "import pytest"),
        "import harness": lambda: python("-c", IMPORT_HARNESS),
        "collect": lambda: pytest("--collect-only", *every),
        "collect some": lambda: pytest("--collect-only", *some),
        "run some": lambda: pytest("--cb-simulate", *some),
        "reports": lambda: python(
            "-c", "import harness.cli, sys; sys.exit(harness.cli.main())", "report", many, *reports
        ),
        "one process": lambda: pytest("-m", "cb and cpu and not http", "suites/scheduler_steps"),
        "two processes": lambda: pytest("-n2", "-m", "cb and cpu and not http", "suites/scheduler_steps"),
    }
    taken = medians(in_turn(ways, repeat))
    start, ran = taken["import pytest"], RUN * CASES * CONFIGURATIONS
    each = (taken["run some"] - taken["collect some"]) / ran
    return [
        Metric("import of the harness, without torch", taken["import harness"] - start, " s", at_most=0.5),
        Metric(
            f"collection of {TESTS:,} tests, beyond import pytest",
            taken["collect"] - start,
            " s",
            at_most=5,
            base=f"{SUITES * CASES:,} cases in {CONFIGURATIONS} configurations",
        ),
        Metric(
            "memory a test, collected",
            1024 * (more - less) / (TESTS - ran),
            " KB",
            base=f"{less:.0f} MB with {ran:,}, {more:.0f} MB with {TESTS:,}",
        ),
        Metric("a simulated test, beyond its collection", 1000 * each, " ms", at_most=5, base=f"{ran:,} tests"),
        Metric(f"page, JUnit and summary of {TESTS:,} tests", taken["reports"], " s", at_most=10),
        Metric(
            "-n 2 on the scheduler-step suites",
            taken["one process"] / taken["two processes"],
            " ×",
            base=f"{taken['one process']:.1f} s and {taken['two processes']:.1f} s",
        ),
    ]


if __name__ == "__main__":
    main()
