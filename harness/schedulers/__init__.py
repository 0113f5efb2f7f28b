"""Schedulers by the name that suites and engines know them by, one folder each. See ``spec.py`` for what one has."""

from collections.abc import Mapping

from harness.schedulers import chunked, continuous, static
from harness.schedulers.spec import SchedulerSpec
from harness.types import StepRow

SPECS: Mapping[str, SchedulerSpec] = {module.SPEC.name: module.SPEC for module in (continuous, chunked, static)}


def scheduler_named(name: str) -> SchedulerSpec:
    """The scheduler of that name. Raises KeyError; the schema of suites knows no others."""
    return SPECS[name]


def scheduler_of_row(row: StepRow) -> SchedulerSpec:
    """The scheduler whose step tables have the columns of this row, for rows that don't say it themselves."""
    return SPECS["continuous" if row.paused is None else "chunked"]
