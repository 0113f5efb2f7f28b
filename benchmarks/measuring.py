"""Code that all benchmarks use: alternating measurements, metrics with targets, a table, and a JSON file.

Durations vary on a shared machine. So a benchmark measures the variants that it compares alternately, several times in
one run. Results are medians and ratios of medians. Results of different runs are never compared.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

MODELS = ("tiny-granite", "smollm2-135m")


@dataclass(frozen=True)
class Metric:
    """A measured value and its target, ``at_least`` or ``at_most``; both are None if there is no target.

    ``base`` says in a few words from which measurements the value was computed.
    """

    what: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    base: str = ""

    @property
    def verdict(self) -> str:
        """Return ``met`` or ``missed``; a dash if there is no target."""
        if self.at_least is None and self.at_most is None:
            return "–"
        low = self.at_least is not None and self.value < self.at_least
        high = self.at_most is not None and self.value > self.at_most
        return "missed" if low or high else "met"

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:,g}{self.unit}"
        return "" if self.at_most is None else f"≤ {self.at_most:,g}{self.unit}"

    @property
    def shown(self) -> str:
        digits = 0 if abs(self.value) >= 1000 else 1 if abs(self.value) >= 100 else 2
        return f"{self.value:,.{digits}f}{self.unit}"


def parser_of(description: str | None, repeat: int) -> argparse.ArgumentParser:
    """Return an argument parser with the flags that every benchmark has."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument(
        "--repeat", type=int, default=repeat, help="number of rounds; results are medians (default: %(default)s)"
    )
    return parser


def one_thread() -> None:
    """Set torch to one thread. Must be called before torch is imported, because the import reads OMP_NUM_THREADS."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def in_turn(ways: Mapping[str, Callable[[], object]], repeat: int, *, warm: int = 1) -> dict[str, list[float]]:
    """Run all variants ``ways`` alternately, and return the seconds of each variant in each of ``repeat`` rounds.

    Before these rounds, ``warm`` rounds are run that are not measured.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-warm, repeat):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            if number >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.median(times) for name, times in seconds.items()}


def machine() -> dict[str, object]:
    """Return a description of this machine, with its load average."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def report(title: str, metrics: Sequence[Metric], file: Path | None, *, began: float) -> None:
    """Print the metrics as a table, and write them to ``file`` as JSON if ``file`` is not None.

    ``began`` is the ``time.perf_counter()`` at which the benchmark began.
    """
    table = Table(title=title, title_justify="left")
    for name in ("what", "measured", "target", "", "from"):
        table.add_column(name, justify="right" if name in ("measured", "target") else "left")
    for metric in metrics:
        table.add_row(metric.what, metric.shown, metric.target, metric.verdict, metric.base)
    Console(width=150).print(table)
    if file is None:
        return
    written = {
        "title": title,
        "seconds": round(time.perf_counter() - began, 1),
        "machine": machine(),
        "metrics": [asdict(f) | {"shown": f.shown, "wanted": f.target, "verdict": f.verdict} for f in metrics],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f} ms"
