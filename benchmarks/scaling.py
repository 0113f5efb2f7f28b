"""Simulate the cost of a nightly run of many models, backends and tensor-parallel sizes on N cards.

    python benchmarks/scaling.py [--durations benchmarks/scaling.yaml] [--json FILE]

The input is the durations of a start, a step and a case. Every setup (model, backend, tensor-parallel size) runs all
cases in a number of shards. Each shard is a job that starts an engine once, or, without reuse, once per case. A job
waits for as many cards or cores as it has processes. docs/scaling.md discusses the results.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError
from rich.console import Console
from rich.table import Table
from schedule import Job, simulate

DURATIONS = Path(__file__).with_name("scaling.yaml")
POLICIES = {
    "an engine a case": (1, False),
    "1 shard a setup": (1, True),
    "4 shards": (4, True),
    "16 shards": (16, True),
}
"""By name: (number of shards of a setup, whether a shard uses one engine for all of its cases)."""


class Part(BaseModel):
    """The durations of a start, a step and a case with one backend, in seconds (see scaling.yaml)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slot: Literal["core", "card"]
    start: NonNegativeFloat
    more_a_process: NonNegativeFloat
    step: PositiveFloat
    case: NonNegativeFloat
    source: str


class Slots(BaseModel):
    """The sizes of clusters to simulate: one number of CPU cores, and several numbers of Spyre cards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    core: PositiveInt
    card: tuple[PositiveInt, ...]


class Nightly(BaseModel):
    """The input of the simulation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: PositiveInt
    cases: PositiveInt
    steps_per_case: PositiveInt
    tensor_parallel_sizes: tuple[PositiveInt, ...]
    backends: dict[str, Part]
    slots: Slots


def jobs(night: Nightly, slot: str, shards: int, reuse: bool) -> list[Job]:
    """Return a job for every shard of every setup that runs on ``slot``: ``core`` or ``card``.

    ``shards`` is the number of shards of a setup. With ``reuse``, a shard starts its engine once, else once per case.
    """
    made = []
    for part in night.backends.values():
        if part.slot != slot:
            continue
        case = night.steps_per_case * part.step + part.case
        for size in night.tensor_parallel_sizes:
            start = part.start + (size - 1) * part.more_a_process
            for shard in range(shards):
                cases = len(range(shard, night.cases, shards))
                made += [Job(size, cases * case + start * (1 if reuse else cases))] * night.models
    return made


def rows(night: Nightly) -> list[dict[str, object]]:
    """Return a row of the table for each number of cores or cards and each policy."""
    out: list[dict[str, object]] = []
    for slot, counts in (("core", (night.slots.core,)), ("card", night.slots.card)):
        for count in counts:
            for policy, (shards, reuse) in POLICIES.items():
                listed = jobs(night, slot, shards, reuse)
                if not listed:
                    continue
                done = simulate(listed, count)
                hours = {"hours": done.wall / 3600, "slot_hours": done.busy / 3600, "idle": done.idle_share}
                out.append({"slot": slot, "slots": count, "policy": policy, "jobs": len(listed), **hours})
    return out


def read(file: Path) -> Nightly:
    """Read the durations. Raises SystemExit with one sentence if the file cannot be read or is invalid."""
    try:
        return Nightly.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise SystemExit(f"{file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SystemExit(f"{file}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise SystemExit(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--durations", type=Path, default=DURATIONS, help="YAML or JSON (default: scaling.yaml in this folder)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table to FILE")
    arguments = parser.parse_args()
    night = read(arguments.durations)
    try:
        found = rows(night)
    except ValueError as error:
        sys.exit(f"{arguments.durations}: {error}")
    tests = night.models * len(night.backends) * len(night.tensor_parallel_sizes) * night.cases
    table = Table(title=f"A night of {tests:,} tests", title_justify="left")
    for name in ("on", "policy", "jobs", "wall", "slot-hours", "idle"):
        table.add_column(name, justify="left" if name in ("on", "policy") else "right")
    for row in found:
        table.add_row(
            f"{row['slots']} {row['slot']}s",
            str(row["policy"]),
            f"{row['jobs']:,}",
            f"{row['hours']:,.1f} h",
            f"{row['slot_hours']:,.0f}",
            f"{row['idle']:.0%}",
        )
    console = Console(width=120)
    console.print(table)
    for name, part in night.backends.items():
        console.print(f"{name}: {part.source}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        written = {"title": "A nightly run, simulated", "metrics": [], "rows": found, "from": night.model_dump()}
        arguments.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
