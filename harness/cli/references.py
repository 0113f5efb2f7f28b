"""``spyre-cb references``: compute missing reference outputs with Hugging Face, and write them to files.

Unlike ``--cb-bless``, this command runs no engine, and computes the outputs of many requests in one batch.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from checkpoints import Checkpoint, resolve
from harness.cases.compared import has_reference, specs_with_reference
from harness.cases.places import place_in_case
from harness.cli.arguments import CommandError, Subparsers, add_command, add_selection
from harness.cli.cases import Listed, listed_tests, with_markers
from harness.golden.tables import reference_path
from harness.references import Oracle, Reference, Wanted
from harness.references.files import write_references
from harness.references.stopping import all_wanted
from harness.references.store import made_with
from harness.references.structures import StructureError
from harness.suites.discovery import suite_files
from harness.suites.markers import left_out
from harness.suites.prompts import vocabulary_of
from harness.suites.shipped import is_installed_copy, is_shipped
from harness.suites.yaml import shown_file
from harness.utils.extras import ENGINE, why_missing
from harness.utils.text import plural

if TYPE_CHECKING:
    from harness.references.compute import Progress

_EXAMPLES = """\
  spyre-cb references suites/output
  spyre-cb references --check
"""


@dataclass(frozen=True)
class _CaseFile:
    """The file with the reference outputs of one case for one model, and the requests whose outputs the file has."""

    test: Listed
    file: Path
    checkpoint: Checkpoint
    wanted: tuple[Wanted, ...]


def add_to(subparsers: Subparsers) -> None:
    about = "compute and write missing reference outputs"
    parser = add_command(subparsers, "references", run, about, _EXAMPLES)
    add_selection(parser, "cases")
    parser.add_argument(
        "--check", action="store_true", help="only list missing outputs; exit status 1 if there are any"
    )


def run(arguments: Namespace) -> int:
    """Compute and write missing reference outputs or, with ``--check``, list their files."""
    if os.environ.get("CI") and not arguments.check:
        raise CommandError("references are not written if the environment variable CI is set; use --check")
    if missing := why_missing(ENGINE):
        raise CommandError(missing)
    tests = with_markers(list(listed_tests(suite_files(arguments.paths))), arguments.marker)
    files = list(_case_files(tests, " ".join(arguments.marker)))
    oracle = Oracle()
    lacking = [each for each in files if not oracle.holds(each.file, each.checkpoint, each.wanted)]
    if lacking and not arguments.check and is_installed_copy() and any(is_shipped(test.loaded.path) for test in tests):
        raise CommandError("the suites of an installed package can't be changed; use --check, or name your own suites")
    if arguments.check:
        for each in lacking:
            print(f"missing or out of date  {shown_file(each.file)}")
        print(f"{plural(len(files), 'reference file')} needed, {len(lacking)} missing or out of date")
        return 1 if lacking else 0
    _write(oracle, lacking)
    print(f"{plural(len(files), 'reference file')} needed; {len(lacking)} were missing or outdated and are now written")
    return 0


def _case_files(tests: Sequence[Listed], named: str) -> Iterator[_CaseFile]:
    seen: set[Path] = set()
    for test in tests:
        case, model = test.expanded.case, test.expanded.configuration.model
        if not has_reference(case) or left_out(test.markers, named):
            continue
        checkpoint = resolve(model)
        file = reference_path(test.loaded.path, case.id, checkpoint.label)
        if file in seen:
            continue
        seen.add(file)
        vocabulary = vocabulary_of(checkpoint)
        try:
            specs = list(specs_with_reference(case, vocabulary))
        except ValueError as error:
            place = test.loaded.place_of_case(test.expanded.index)
            raise CommandError(f"{place}: {case.id}: {error}") from error
        yield _CaseFile(test, file, checkpoint, all_wanted(specs, vocabulary))


def _write(oracle: Oracle, lacking: Sequence[_CaseFile]) -> None:
    by_model = {
        each.checkpoint: [other for other in lacking if other.checkpoint == each.checkpoint] for each in lacking
    }
    for checkpoint, files in by_model.items():
        every = [wanted for each in files for wanted in each.wanted]
        with _progress(checkpoint.label, len(every)) as progress:
            try:
                found = iter(oracle.computed(checkpoint, every, progress))
            except StructureError as error:
                raise _refused(files, error) from error
        for each in files:
            _write_one(each, [next(found) for _ in each.wanted])


def _refused(files: Sequence[_CaseFile], error: StructureError) -> CommandError:
    """Return the error for a constraint that can't be applied, with the place of the first request that has it."""
    for each in files:
        expanded, loaded = each.test.expanded, each.test.loaded
        if at := place_in_case(expanded.case, error):
            return CommandError(str(loaded.problem(("cases", expanded.index, *at), str(error), "")))
    return CommandError(str(error))


def _write_one(each: _CaseFile, references: Sequence[Reference]) -> None:
    decode = vocabulary_of(each.checkpoint).decode
    cut = [reference.upto(wanted.max_tokens) for reference, wanted in zip(references, each.wanted, strict=True)]
    pairs = list(zip(each.wanted, cut, strict=True))
    try:
        write_references(each.file, each.checkpoint, pairs, [decode(r.token_ids) for r in cut], made_with())
    except OSError as error:
        raise CommandError(f"{each.file}: cannot be written: {error.strerror or error}") from error
    print(f"written  {shown_file(each.file)}: {len(pairs)} requests")


@contextmanager
def _progress(label: str, total: int) -> Iterator["Progress | None"]:
    """Yield a progress bar on stderr if it is a terminal, else None."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(f"{label}: references"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("references", total=total)
        yield lambda done: bar.advance(task, done)
