"""Schedulers by the name that suites and engines use. One folder for each; ``spec.py`` describes its contents."""

from collections.abc import Mapping

from harness.schedulers import chunked, continuous, static, token_budget
from harness.schedulers.spec import SchedulerSpec, SearchTools
from harness.suites.schema import format_of_row
from harness.types import StepRow

_FOLDERS = (continuous, chunked, token_budget, static)
SPECS: Mapping[str, SchedulerSpec] = {folder.SPEC.name: folder.SPEC for folder in _FOLDERS}


def scheduler_named(name: str) -> SchedulerSpec:
    """Return the scheduler with that name. Raises KeyError for names that the suite schema does not allow."""
    return SPECS[name]


def search_tools_of(name: str) -> SearchTools:
    """Return the search tools of a scheduler. Raises ValueError if it has no rules to search with."""
    tools = SPECS[name].search_tools
    if tools is None:
        raise ValueError(f"scheduler {name} can't be searched: it has no model of its rules; use another scheduler")
    return tools()


def scheduler_of_row(row: StepRow) -> SchedulerSpec:
    """Return the scheduler whose step tables have the columns of ``row``."""
    return SPECS[format_of_row(row).name]
