"""Measure which share of a run of the output suites is spent outside the engine, with all references on disk.

    python benchmarks/output_overhead.py [--json FILE] [PYTEST ARGUMENTS ...]

The script runs pytest in this process, and measures the time of engine starts, ends and steps. The remaining time is
spent by pytest and the harness: reading suites and references, and comparing outputs.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from engine.core import EngineCore
from harness.drivers.reference import ReferenceDriver, ReferenceSession

DEFAULT = ("-q", "-m", "cpu", "--cb-references", "committed", "-p", "no:cacheprovider", "suites/output")


def timed(into: dict[str, float], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper of ``function`` that adds the seconds of each call to ``into[name]``."""

    @wraps(function)
    def wrapper(*arguments: Any, **more: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **more)
        finally:
            into[name] += time.perf_counter() - began

    return wrapper


def main() -> int:
    """Run the suites, print the measurements, and return the exit status of pytest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    arguments, rest = parser.parse_known_args()
    seconds = {"starting engines": 0.0, "engine steps": 0.0, "ending engines": 0.0}
    EngineCore.step = timed(seconds, "engine steps", EngineCore.step)  # type: ignore[method-assign]
    ReferenceDriver.open = timed(seconds, "starting engines", ReferenceDriver.open)  # type: ignore[method-assign]
    ReferenceSession.close = timed(seconds, "ending engines", ReferenceSession.close)  # type: ignore[method-assign]
    began = time.perf_counter()
    status = pytest.main([*(rest or DEFAULT)])
    total = time.perf_counter() - began
    seconds["outside the engine"] = total - sum(seconds.values())
    print()
    for name, value in seconds.items():
        print(f"{name:<20} {value:7.2f} s  {value / total:6.1%}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"total": total, **seconds}, indent=1) + "\n", encoding="utf-8")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
