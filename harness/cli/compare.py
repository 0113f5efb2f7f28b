"""``spyre-cb compare``: compare the results of two runs, such as runs of two engines or two versions of an engine."""

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from harness.cli.arguments import CommandError, Subparsers, add_command, apart, named
from harness.cli.latency import compare_folders
from harness.compare.changes import MEANING, Change, Comparison, Kind, compare_runs
from harness.compare.results import ResultsError, read_results, reason_of
from harness.compare.tables import as_cells, as_data, tables_side_by_side
from harness.utils.text import plural

_EXAMPLES = """\
  spyre-cb compare reports/conformance.jsonl reports/conformance-vllm-spyre.jsonl
  spyre-cb compare before.jsonl after.jsonl --html reports/compared.html
  spyre-cb compare --latency before after      (two folders, each with the results of at least 4 runs)
"""


def add_to(subparsers: Subparsers) -> None:
    about = "compare two runs: which tests got worse, better or are new"
    parser = add_command(subparsers, "compare", run, about, _EXAMPLES)
    parser.add_argument("before", type=named, metavar="FIRST", help="results of a run (pytest --cb-results FIRST)")
    parser.add_argument("after", type=named, metavar="SECOND", help="results of another run")
    parser.add_argument("--html", type=named, metavar="FILE", help="also write the comparison as an HTML page")
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of text")
    about = "compare how long requests take: FIRST and SECOND are folders with results of repeated runs"
    parser.add_argument("--latency", action="store_true", help=about)


def run(arguments: Namespace) -> int:
    """Print the comparison. Return exit status 1 if a test got worse or, with ``--latency``, requests take longer."""
    if arguments.latency:
        return compare_folders(arguments)
    apart([arguments.before, arguments.after], {"--html": arguments.html})
    try:
        comparison = compare_runs(read_results(arguments.before), read_results(arguments.after))
    except ResultsError as error:
        raise CommandError(str(error)) from error
    if arguments.json:
        print(json.dumps(_as_json(comparison), indent=1, ensure_ascii=False))
    else:
        _print(comparison)
    if arguments.html:
        from harness.compare.page import write_comparison  # needs jinja2

        try:
            write_comparison(arguments.html, comparison, sentence_of(comparison))
        except OSError as error:
            raise CommandError(f"{arguments.html}: cannot be written: {error.strerror or error}") from error
    return 1 if comparison.counts[Kind.WORSE] else 0


def sentence_of(comparison: Comparison) -> str:
    """Return one sentence: how many tests were compared, and how many of them are of each ``Kind``."""
    parts = [f"{count} {kind}" for kind, count in comparison.counts.items() if count]
    return f"{plural(len(comparison.changes), 'test')}: {', '.join(parts)}" if parts else "neither run has a test"


def _print(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"first:   {comparison.before.engine}  ({comparison.before.path})", markup=False)
    console.print(f"second:  {comparison.after.engine}  ({comparison.after.path})", markup=False)
    if comparison.by_requirement:
        table = Table("requirement", *(kind.value for kind in Kind), box=None, pad_edge=False)
        for name, counts in comparison.by_requirement.items():
            table.add_row(name, *(str(counts[kind] or "") for kind in Kind))
        console.print()
        console.print(table, soft_wrap=False)
    for kind in Kind:
        listed = [change for change in comparison.different if change.kind is kind]
        if listed:
            console.print(Text(f"\n{kind}: {MEANING[kind]}", style="bold"))
        for change in listed:
            for line in _lines(change):
                console.print(line, markup=False)
    console.print(Text(f"\n{sentence_of(comparison)}", style="bold"))


def _lines(change: Change) -> Iterator[str]:
    yield f"  {change.name}  {' '.join(change.requirements)}".rstrip()
    for which, record in (("first", change.before), ("second", change.after)):
        reason = reason_of(record)
        yield f"    {which + ':':8}{change.outcome(record)}{f': {reason}' if reason else ''}"
    table = tables_side_by_side(change)
    if table is None:
        return
    rows = [["step", "kind", *table.columns], *(as_cells(line, table.columns) for line in table.lines)]
    widths = [max(len(row[i]) for row in rows if len(row) > 1) for i in range(len(rows[0]))]
    yield ""
    for row in rows:
        padded = row if len(row) == 1 else [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield f"      {'  '.join(padded)}".rstrip()
    yield ""


def _as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "first": dict(comparison.before.header),
        "second": dict(comparison.after.header),
        "counts": dict(comparison.counts),
        "requirements": {name: dict(counts) for name, counts in comparison.by_requirement.items()},
        "cases": [_change_as_json(change) for change in comparison.changes],
    }


def _change_as_json(change: Change) -> dict[str, Any]:
    suite, case, configuration = change.key
    table = tables_side_by_side(change) if change.kind is not Kind.SAME else None
    sides = {
        name: {"outcome": change.outcome(record), "reason": reason_of(record)}
        for name, record in (("first", change.before), ("second", change.after))
    }
    return {
        "suite": suite,
        "case": case,
        "configuration": configuration,
        "requirements": list(change.requirements),
        "change": change.kind,
        **sides,
        **({"steps": as_data(table)} if table is not None else {}),
    }
