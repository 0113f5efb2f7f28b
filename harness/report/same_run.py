"""Check that two results files belong to one run: that they have the same engine, models, options and tests.

This is required of the parts of a run (``--cb-shard``), and of a run that is resumed (``--cb-resume``).
"""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from harness.report.outcomes import shortened
from harness.report.plan import Plan, plan_from
from harness.suites.discovery import NOT_SUITES

COMPARED = {
    "engine": "engine",
    "models": "models",
    "digests": "checkpoints of the models",
    "simulated": "simulation of sendnn",
    "options": "options",
    "revision": "git revision",
}
"""Fields of the header that must be the same in all results files of a run. The values are their names in messages."""
MAX_TEXT = 120


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return a clause about the first difference between the headers of two results files.

    Return "" if they can be files of the same run, possibly of different parts (``--cb-shard``). The lists of tests are
    compared if both headers have one.
    """
    for field, name in COMPARED.items():
        if _value(one, field) != _value(other, field):
            return (
                f"the {name} differ{'' if name.endswith('s') else 's'}: {_text(one, field)}, and {_text(other, field)}"
            )
    if all(one.get(name) == other.get(name) for name in ("plan", "suites")):
        return ""
    planned, its = plan_from(one), plan_from(other)
    return plan_difference(planned, its) if planned and its else ""


def plan_difference(one: Plan, other: Plan) -> str:
    """Return a clause about the first difference between the plans of two runs. Return "" if there is no difference."""
    if one.digest == other.digest:
        return ""
    only = sorted(set(one.tests) ^ set(other.tests))
    if only:
        more = f" and {len(only) - 1} more" if only[1:] else ""
        return f"the tests differ: only one of the two runs has {only[0]}{more}"
    names = sorted(one.suites.keys() | other.suites.keys())
    changed = [name for name in names if one.suites.get(name) != other.suites.get(name)]
    if changed:
        tables = "" if PurePosixPath(changed[0]).name in NOT_SUITES else ", or a golden table of its cases"
        return f"{changed[0]} was changed between the two runs{tables}"
    return "the same tests are divided into other parts (other durations, or another number of parts)"


def _value(header: Mapping[str, Any], field: str) -> Any:
    return header.get(field) or None


def _text(header: Mapping[str, Any], field: str) -> str:
    value = _value(header, field)
    text = value if isinstance(value, str) else json.dumps(value)
    return shortened(text, MAX_TEXT)
