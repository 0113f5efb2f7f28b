"""Merge several runs into one: the parts of a run (``--cb-shard``), repeated runs, or runs of different engines."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from harness.report.outcomes import Record, counts_of
from harness.report.parts import missing_tests
from harness.report.plan import Plan, plan_from
from harness.report.reading import Recorded
from harness.report.tested import leases_of


def merged(runs: Sequence[Recorded]) -> Recorded:
    """Merge several runs, such as the parts of a nightly run (``--cb-shard``), or runs of different engines.

    If several runs of the same engine have a result for the same test, the result of the run that began last is used.
    If the runs are of different engines, each result gets a field ``engine``. Raises ResultsError if runs with
    ``--cb-shard`` are not the parts of one run.
    """
    missing = missing_tests(runs)
    is_divided = any(run.header.get("shard") for run in runs)
    if len(runs) == 1 and not is_divided:
        return replace(runs[0], missing=missing)
    engines = {run.engine for run in runs}
    results: dict[tuple[str, str], Record] = {}
    for run in sorted(runs, key=lambda run: float(run.header.get("began", 0.0))):
        for result in run.results:
            record = {**result, "engine": run.engine} if len(engines) > 1 else result
            results[run.engine, str(result["test"])] = record
    footers = [run.footer for run in runs if run.footer is not None]
    footer = merged_footer(footers, results.values()) if is_divided or len(footers) == len(runs) else None
    if footer is not None and missing:
        footer |= {"stopped": "; ".join(each.sentence for each in missing)}
        footer["exitstatus"] = max(1, int(footer["exitstatus"]))
    return Recorded(
        runs[0].path,
        merged_header([run.header for run in runs]),
        tuple(results.values()),
        footer,
        tuple(name for run in runs for name in run.running),
        missing,
    )


def merged_header(headers: Sequence[Record]) -> Record:
    """Return the header of the results file of a merged run. ``headers`` are those of the runs that are merged."""

    def all_of(name: str) -> list[object]:
        return list(dict.fromkeys(value for header in headers for value in header.get(name, ())))

    first = {name: value for name, value in headers[0].items() if name not in ("shard", "killed", "plan", "suites")}
    return {
        **first,
        "shard": None,
        **_merged_plan(headers),
        "killed": {},
        "engine": "; ".join(dict.fromkeys(str(header.get("engine", "unknown engine")) for header in headers)),
        "models": all_of("models"),
        "command": "\n".join(dict.fromkeys(str(header.get("command", "")) for header in headers)),
        "digests": {name: digest for header in headers for name, digest in header.get("digests", {}).items()},
        **({"cards": all_of("cards")} if any("cards" in header for header in headers) else {}),
        "simulated": any(header.get("simulated") for header in headers),
        "began": min(float(header.get("began", 0.0)) for header in headers),
    }


def _merged_plan(headers: Sequence[Record]) -> Record:
    """Return the header fields ``plan`` and ``suites`` of a merged run. The plan has all tests of all runs, by name.

    A run that ended before its tests were collected has no plan in its header. Return {} if no run has a plan, or if
    one run has none and the runs are not parts of one run (``--cb-shard``). Each part has the plan of all parts.
    """
    plans = [plan_from(header) for header in headers]
    known = [plan for plan in plans if plan is not None]
    if len(known) < len(plans) and not any(header.get("shard") for header in headers):
        return {}
    tests = sorted({test for plan in known for test in plan.tests})
    suites = {name: digest for plan in known for name, digest in plan.suites.items()}
    return Plan((tuple(tests),), dict(sorted(suites.items()))).as_data() if known else {}


def merged_footer(footers: Sequence[Record], results: Collection[Record]) -> dict[str, Any]:
    """Return the footer of the results file of a merged run.

    ``footers`` are those of the runs that are merged, and ``results`` are the results of the merged run.
    """
    spent: Counter[str] = Counter()
    for footer in footers:
        spent.update(footer.get("spent", {}))
    requirements = {name: fields for footer in footers for name, fields in footer.get("requirements", {}).items()}
    return {
        "footer": 1,
        "digests": {name: digest for footer in footers for name, digest in footer.get("digests", {}).items()},
        "leases": leases_of(results),
        "counts": counts_of(results),
        "stopped": "; ".join(dict.fromkeys(filter(None, (footer.get("stopped", "") for footer in footers)))),
        "exitstatus": max((int(footer.get("exitstatus", 0)) for footer in footers), default=0),
        "seconds": sum(float(footer.get("seconds", 0.0)) for footer in footers),
        "compiled": list(dict.fromkeys(line for footer in footers for line in footer.get("compiled", ()))),
        "backends": list(dict.fromkeys(line for footer in footers for line in footer.get("backends", ()))),
        "requirements": requirements,
        "spent": dict(spent),
    }
