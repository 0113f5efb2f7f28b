"""Write a failing workload that the search has found to a suite file."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.drivers.registry import DEFAULT
from harness.runs.plain_decodes import cells_of, columns_of, shorten
from harness.schedulers import scheduler_named
from harness.search.run import Found
from harness.search.violated import violated
from harness.suites.schema import Limits, Request
from harness.types import StepRow
from harness.utils.files import write_text_whole
from harness.utils.paths import resolved


def write_suite(folder: Path, found: Found) -> Path:
    """Write a suite with the failing workload as its only case to ``folder``, and return the path of the file.

    The name of the file is the workload's ``case_id``. Raises OSError if the file can't be written. Raises ValueError
    if a request of the workload ends before ``max_tokens``, because a suite must name the token that ends the request,
    and a workload has no tokens.
    """
    path = folder / f"{found.workload.case_id}.yaml"
    text = suite_text(found, name_of(path))
    folder.mkdir(parents=True, exist_ok=True)
    write_text_whole(path, text)
    return path


def name_of(path: Path) -> str:
    """Return the name of the suite in the file ``path``, without the suffix of the file.

    The name is the path below the last folder that is named ``suites`` or, if there is none, the name of the file.
    """
    parts = resolved(path).with_suffix("").parts
    start = len(parts) - parts[::-1].index("suites") if "suites" in parts[:-1] else -1
    return "/".join(parts[start:])


def run_command(path: Path, found: Found, driver: str = "reference") -> str:
    """Return the pytest command that runs the suite file ``path`` and so reproduces the failure.

    ``driver`` is the name of the driver on whose engine the search found the failure.
    """
    engine = driver.removeprefix("simulated ")
    named = "" if engine in (DEFAULT, "simulation") else f" --cb-driver {engine}"
    return f'python -m pytest "{path}"{named}' + ("" if found.on_a_model else " --cb-simulate")


def suite_text(found: Found, name: str = "") -> str:
    """Return the text of a suite file with the failing workload as its only case.

    The expected step table is the one that the rules require, so the engine under test fails the case. ``name`` is the
    name of the suite, by default the id of the case. Raises ValueError if a request of the workload ends before
    ``max_tokens``, because a suite must name the token that ends a request, and a workload has no tokens.
    """
    workload = found.workload
    if any(request.stops_after is not None for request in workload.requests):
        raise ValueError(
            "a workload with early stops can't be written as a suite, because a suite must name the token that ends a "
            "request, and the workload has no tokens: search with early_stops=False"
        )
    options, scheduler = workload.options, scheduler_named(workload.scheduler)
    lines = [
        f"# Found by spyre-cb search on: {_one_line(found.engine)}",
        f"suite: {name or workload.case_id}",
        "kind: scheduler_steps",
        "parameters:",
        "  model: $models",
        "  backend: [eager, sendnn]",
        f"  scheduler: [{scheduler.name}]",
        "cases:",
        f"  - id: {workload.case_id}",
        f"    requirement: {_flow(list(violated(scheduler, found.verdict)))}",
        f"    about: {_quoted(found.verdict.headline)}",
        f"    limits: {_flow(Limits(**vars(workload.limits)).model_dump(exclude_none=True))}",
        *([f"    {scheduler.format.options_key}: {_flow(asdict(options))}"] if options else []),
        "    requests:",
        *(f"      - {_request(request)}" for request in workload.as_requests()),
        "    expect:",
        f"      output: {'reference' if found.on_a_model else 'none'}",
        "      steps:  # by the rules; omitted rows are plain decodes",
        *(f"        {line}" for line in _table(workload.expected())),
    ]
    return "\n".join(lines) + "\n"


def _request(request: Request) -> str:
    return _flow(request.model_dump(exclude_defaults=True, exclude_none=True))


def _table(expected: Sequence[StepRow]) -> list[str]:
    rows, columns = shorten(expected), columns_of(expected)
    cells = [[_flow(value) for value in cells_of(row, columns)] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    header = "#   " + "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True)).rstrip()
    return [header, *(f"- [ {_aligned(line, widths)} ]" for line in cells)]


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    commas = [f"{cell}," for cell in line[:-1]] + [line[-1]]
    return " ".join(cell.ljust(width + 1) for cell, width in zip(commas, widths, strict=True)).rstrip()


def _flow(value: Any) -> str:
    """Return a value as YAML on one line, in the style of the suites.

    The value must consist of numbers, strings, lists, and mappings whose keys need no quotes. Strings that do not begin
    with a letter are quoted, because YAML could read them as numbers.
    """
    if isinstance(value, str) and not value[:1].isalpha():
        return _quoted(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    # A JSON string is also a YAML string in double quotes.
    return json.dumps(_one_line(text), ensure_ascii=False)


def _one_line(text: str) -> str:
    return " ".join(text.split())
