"""What the benchmarks share: ways measured in turn, figures with their targets, a table, a JSON file.

Machines are noisy. So whatever is compared is measured in one run, in turn and several times over, and what is stated
are medians and their ratios, never the figure of one run against that of another.
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
class Figure:
    """A number that was measured, and what it should be: ``at_least`` or ``at_most``, None where it only informs.

    ``base`` says what it came from, in a few words.
    """

    what: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    base: str = ""

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or a dash where there is no target."""
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
    """The flags that every benchmark has."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--repeat", type=int, default=repeat, help="rounds; medians count (default: %(default)s)")
    return parser


def one_thread() -> None:
    """Hold torch to one thread; said before torch is imported, since it reads the environment then."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def in_turn(ways: Mapping[str, Callable[[], object]], repeat: int, *, warm: int = 1) -> dict[str, list[float]]:
    """Seconds of each way, round after round, ``warm`` rounds more at the beginning that do not count."""
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
    """What the figures were measured on, and how busy it was."""
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


def report(title: str, figures: Sequence[Figure], file: Path | None, *, began: float) -> None:
    """Print the table, and write it to ``file`` as JSON where one is named. ``began`` is a ``time.perf_counter``."""
    table = Table(title=title, title_justify="left")
    for name in ("what", "measured", "target", "", "from"):
        table.add_column(name, justify="right" if name in ("measured", "target") else "left")
    for figure in figures:
        table.add_row(figure.what, figure.shown, figure.target, figure.verdict, figure.base)
    Console(width=150).print(table)
    if file is None:
        return
    written = {
        "title": title,
        "seconds": round(time.perf_counter() - began, 1),
        "machine": machine(),
        "figures": [asdict(f) | {"shown": f.shown, "wanted": f.target, "verdict": f.verdict} for f in figures],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f} ms"
