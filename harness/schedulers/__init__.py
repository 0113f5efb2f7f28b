"""The schedulers that engines can have: ``continuous``, ``chunked``, ``token_budget`` and ``static``.

Each scheduler has a folder here, which defines ``SPEC``: the ``SchedulerSpec`` (``spec.py``) of the scheduler.
"""

from collections.abc import Mapping

from harness.schedulers import chunked, continuous, static, token_budget
from harness.schedulers.spec import SchedulerSpec, SearchTools
from harness.suites.schema import format_of_row
from harness.types import StepRow

_FOLDERS = (continuous, chunked, token_budget, static)
SPECS: Mapping[str, SchedulerSpec] = {folder.SPEC.name: folder.SPEC for folder in _FOLDERS}


def scheduler_named(name: str) -> SchedulerSpec:
    """Return the specification of the scheduler with that name. Raises KeyError for an unknown name."""
    return SPECS[name]


def search_tools_of(name: str) -> SearchTools:
    """Return the functions that ``spyre-cb search`` needs for a scheduler.

    Raises ValueError if the scheduler has no scheduler model (an independent implementation of its rules).
    """
    tools = SPECS[name].search_tools
    if tools is None:
        others = ", ".join(spec.name for spec in SPECS.values() if spec.search_tools is not None)
        raise ValueError(f"a search can't predict the steps of the scheduler {name}; use one of {others}")
    return tools()


def scheduler_of_row(row: StepRow) -> SchedulerSpec:
    """Return the specification of the scheduler whose step tables have the same columns as ``row``."""
    return SPECS[format_of_row(row).name]
