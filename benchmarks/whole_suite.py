"""Every suite in one process, and with ``-n 2`` on two cores.

    python benchmarks/whole_suite.py [--repeat N] [--json FILE]

All tests that `make conformance` runs, in its mode. A quarter of an hour and more a round.
"""

import subprocess
import sys
import time
from pathlib import Path

from measuring import Figure, in_turn, medians, parser_of, report

ROOT = Path(__file__).resolve().parents[1]


def run(*more: str) -> None:
    """SystemExit with the last lines where a test fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--isolation=engine", *more, "suites"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit("\n".join(done.stdout.splitlines()[-20:]))


def main() -> None:
    began = time.perf_counter()
    arguments = parser_of(__doc__, 1).parse_args()
    taken = medians(in_turn({"one": run, "two": lambda: run("-n2")}, arguments.repeat, warm=0))
    one, two = taken["one"], taken["two"]
    base = f"{one:.0f} s to {two:.0f} s"
    figure = Figure("all suites: one process to -n 2", one / two, " ×", at_least=1.7, base=base)
    report("The whole suite on two cores", [figure], arguments.json, began=began)


if __name__ == "__main__":
    main()
