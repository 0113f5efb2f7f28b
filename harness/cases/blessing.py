"""Write golden step tables and reference outputs in a run with ``--cb-bless``.

Golden step tables come from the engine under test. Reference outputs come from Hugging Face. Files of cases that no
longer exist are removed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.golden.tables import golden_folder, readable_rows, reference_folders, stale, write_golden
from harness.references.files import write_references
from harness.references.store import made_with
from harness.suites.yaml import shown_file
from harness.types import StepRow

if TYPE_CHECKING:
    from harness.checks.outputs import Comparison


@dataclass
class Blessing:
    """Writes golden step tables and reference outputs during one run, and records which files changed.

    If a case runs in several configurations, the first one writes its golden table, and the others are compared with
    this table. Reference outputs are written even if a check of the engine fails. ``engine`` describes the engine under
    test. ``done`` has the files that this run has written or found up to date. ``changes`` has a line of text for each
    file that was written or removed. ``unchanged`` is the number of files that were up to date.
    """

    engine: str
    done: set[Path] = field(default_factory=set)
    changes: list[str] = field(default_factory=list)
    unchanged: int = 0

    def accept(self, path: Path, suite: str, case: str, rows: Sequence[StepRow]) -> None:
        """Write ``rows`` as the golden step table of a case to ``path``, unless the file already has these rows."""
        self.done.add(path)
        before = readable_rows(path)
        if not write_golden(path, suite, case, self.engine, rows):
            self.unchanged += 1
        elif before is None:
            self.changes.append(f"new      {shown_file(path)}: {len(rows) - 1} steps")
        else:
            self.changes.append(f"changed  {shown_file(path)}: {_difference(before, rows)}")

    def accept_references(self, comparison: "Comparison") -> None:
        """Write the reference outputs of a case, unless the file already has exactly these outputs."""
        file, checkpoint = comparison.file, comparison.checkpoint
        if file in self.done:
            return
        self.done.add(file)
        if comparison.oracle.holds(file, checkpoint, comparison.wanted):
            self.unchanged += 1
            return
        word = "changed" if file.is_file() else "new    "
        texts = [comparison.vocabulary.decode(reference.token_ids) for reference in comparison.references]
        pairs = list(zip(comparison.wanted, comparison.references, strict=True))
        write_references(file, checkpoint, pairs, texts, made_with())
        self.changes.append(f"{word}  {shown_file(file)}: references for {len(pairs)} requests")

    def remove_stale(self, suite_path: Path, with_table: Collection[str], with_reference: Collection[str]) -> None:
        """Remove the suite's golden tables and reference outputs that no case needs any more.

        ``with_table`` and ``with_reference`` are the ids of the cases that need a golden table or reference outputs.
        """
        tables = [path for path in golden_folder(suite_path).glob("*.yaml") if path.stem not in with_table]
        folders = reference_folders(suite_path)
        references = [path for folder in folders for path in folder.glob("*.json") if path.stem not in with_reference]
        for what, paths in (("a golden table", tables), ("reference outputs", references)):
            for path in sorted(paths):
                path.unlink()
                why = f"no case of {suite_path.name} with this id has {what}"
                self.changes.append(f"removed  {shown_file(path)}: {why}")

    def remove_stale_folders(self, folder: Path) -> None:
        """Remove the golden tables and reference outputs whose suite no longer exists in ``folder``.

        This must be called only if the run blesses all suites of the folder.
        """
        for path, suite in stale(folder):
            path.unlink()
            self.changes.append(f"removed  {shown_file(path)}: the suite {shown_file(suite)} does not exist")

    def summary(self) -> list[str]:
        """Return a line for each changed file, then a line with the number of changed and unchanged files."""
        return [*self.changes, f"blessed: files changed: {len(self.changes)}, unchanged: {self.unchanged}"]


def bless_references(blessing: Blessing | None, comparison: "Comparison | None") -> None:
    """Write the reference outputs of a case in a run with ``--cb-bless``.

    Do nothing in other runs (``blessing`` is None), or if no outputs are compared (``comparison`` is None).
    """
    if blessing is not None and comparison is not None:
        blessing.accept_references(comparison)


def _difference(before: Sequence[StepRow], after: Sequence[StepRow]) -> str:
    changed = [new.step for old, new in zip(before, after, strict=False) if old != new]
    words = []
    if changed:
        words.append(f"{len(changed)} rows differ, the first at step {changed[0]}")
    if len(before) != len(after):
        words.append(f"{len(after)} rows instead of {len(before)}")
    return "; ".join(words)
