"""Schedulers by the name that suites and engines know them by, one folder each. See ``spec.py`` for what one has."""

from collections.abc import Mapping

from harness.schedulers import chunked, continuous, static, token_budget
from harness.schedulers.spec import SchedulerSpec, SearchTools
from harness.suites.schema import format_of_row
from harness.types import StepRow

_FOLDERS = (continuous, chunked, token_budget, static)
SPECS: Mapping[str, SchedulerSpec] = {folder.SPEC.name: folder.SPEC for folder in _FOLDERS}


def scheduler_named(name: str) -> SchedulerSpec:
    """The scheduler of that name. Raises KeyError; the schema of suites knows no others."""
    return SPECS[name]


def search_tools_of(name: str) -> SearchTools:
    """Random workloads of that scheduler, and what makes them smaller. Raises ValueError where it has no rules."""
    tools = SPECS[name].search_tools
    if tools is None:
        raise ValueError(f"scheduler {name} has no rules of who joins when: there is nothing to search with")
    return tools()


def scheduler_of_row(row: StepRow) -> SchedulerSpec:
    """The scheduler whose step tables have the columns of this row, for rows that don't say it themselves."""
    return SPECS[format_of_row(row).name]
