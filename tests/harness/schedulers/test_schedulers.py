"""Tests that a scheduler is one folder and an entry in the suite format. No other code may depend on the scheduler."""

import ast
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from harness.schedulers import SPECS, scheduler_of_row, search_tools_of
from harness.suites.markers import MARKERS
from harness.suites.schema import FORMATS, OPTION_KEYS, Case, Scheduler, columns_of_cells
from harness.suites.schema.schedulers import SchedulerFormat
from harness.types import StepRow
from tests.helpers.paths import ROOT

HARNESS = ROOT / "harness"
KNOW_SCHEDULERS = ("schedulers/", "suites/schema/schedulers.py", "types/", "drivers/vllm/", "drivers/reference/")
"""Modules that may depend on the scheduler: its folder, its format, and drivers, which read different internals."""
OWN_COLUMNS = {known.own_column for known in FORMATS.values() if known.own_column}


def violations(source: str) -> Iterator[str]:
    """Yield the places in a source text that depend on the scheduler.

    These are comparisons with its name or with columns that only one scheduler has, and uses of its options.
    """
    names = {*FORMATS, *OPTION_KEYS, *(known.marker for known in FORMATS.values())}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            if any(isinstance(part, ast.Constant) and part.value in names for part in parts):
                yield f"line {node.lineno}: compares with the name of one"
            columns = [part for part in parts if isinstance(part, ast.Attribute) and part.attr in OWN_COLUMNS]
            if columns and any(isinstance(part, ast.Constant) and part.value is None for part in parts):
                yield f"line {node.lineno}: asks for a column of one"
        if isinstance(node, ast.Attribute) and node.attr in OPTION_KEYS:
            yield f"line {node.lineno}: reads the options of one"


def modules() -> list[str]:
    found = (path.relative_to(HARNESS).as_posix() for path in HARNESS.rglob("*.py"))
    return sorted(path for path in found if not path.startswith(KNOW_SCHEDULERS))


@pytest.mark.parametrize("module", modules())
def test_no_module_asks_which_scheduler_it_is(module: str) -> None:
    assert list(violations((HARNESS / module).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ('if name == "chunked": pass', "compares with the name of one"),
        ('if setup.scheduler != "continuous": pass', "compares with the name of one"),
        ("x = 1 if row.paused is None else 2", "asks for a column of one"),
        ("size = setup.chunking.chunk_size", "reads the options of one"),
        ("if row.kind == 'prefill': pass", None),
        ("spec = scheduler_named(name)", None),
    ],
)
def test_asking_is_seen(source: str, answer: str | None) -> None:
    assert [each.split(": ")[1] for each in violations(source)] == ([answer] if answer else [])


def test_every_scheduler_has_a_format_and_a_marker() -> None:
    assert set(SPECS) == set(FORMATS) == set(get_args(Scheduler))
    assert {known.marker for known in FORMATS.values()} <= set(MARKERS)
    assert set(OPTION_KEYS) <= set(Case.model_fields)


@pytest.mark.parametrize("known", FORMATS.values(), ids=lambda known: known.name)
def test_columns_are_those_of_a_row(known: SchedulerFormat) -> None:
    assert set(known.columns) <= set(StepRow._fields)
    assert columns_of_cells([[] if column == "scheduled" else 0 for column in known.columns]) == known.columns


@pytest.mark.parametrize("known", [spec.format for spec in SPECS.values()], ids=lambda known: known.name)
def test_a_row_is_known_by_its_own_column(known: SchedulerFormat) -> None:
    row = StepRow(1, 64, (), (0,), (0,), (), 1, 1)
    own: dict[str, Any] = {known.own_column: ()} if known.own_column else {}
    row = row._replace(**own)
    assert scheduler_of_row(row).format.columns == known.columns


def test_static_batching_has_nothing_to_search_with() -> None:
    with pytest.raises(
        ValueError, match="the steps of the scheduler static; use one of continuous, chunked, token_budget"
    ):
        search_tools_of("static")
