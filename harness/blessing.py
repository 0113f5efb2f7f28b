"""Accepting what an engine does: golden step tables written, kept and removed in one run with --bless."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.expectations import golden_folder, readable_rows, write_golden
from harness.schema import StepRow
from harness.yaml_source import shown_file


@dataclass
class Blessing:
    """What one run has written so far, and what it says at its end.

    A table is written once a run: where a case runs in several configurations, the first one is blessed and the
    others are compared with it.
    """

    engine: str
    done: set[Path] = field(default_factory=set)
    changes: list[str] = field(default_factory=list)
    unchanged: int = 0

    def accept(self, path: Path, suite: str, case: str, rows: Sequence[StepRow]) -> None:
        """Write the table of a case, unless it holds these rows already."""
        self.done.add(path)
        before = readable_rows(path)
        if not write_golden(path, suite, case, self.engine, rows):
            self.unchanged += 1
        elif before is None:
            self.changes.append(f"new      {shown_file(path)}: {len(rows) - 1} steps")
        else:
            self.changes.append(f"changed  {shown_file(path)}: {_difference(before, rows)}")

    def remove_orphans(self, suite_path: Path, golden_cases: Collection[str]) -> None:
        """Remove the tables of a suite's folder that belong to no case of it any more."""
        for path in sorted(golden_folder(suite_path).glob("*.yaml")):
            if path.stem not in golden_cases:
                path.unlink()
                self.changes.append(
                    f"removed  {shown_file(path)}: no case of {suite_path.name} has this id and a golden table"
                )

    def summary(self) -> list[str]:
        """A line a change, then the counts."""
        return [*self.changes, f"blessed: tables changed: {len(self.changes)}, as they were: {self.unchanged}"]


def _difference(before: Sequence[StepRow], after: Sequence[StepRow]) -> str:
    changed = [new.step for old, new in zip(before, after, strict=False) if old != new]
    words = []
    if changed:
        words.append(f"{len(changed)} rows differ, the first at step {changed[0]}")
    if len(before) != len(after):
        words.append(f"{len(after)} rows instead of {len(before)}")
    return "; ".join(words)
