"""Read and write golden step tables, and determine the paths of golden tables and reference outputs.

A golden table is the expected step table of one case, in a YAML file of its own. Reference outputs are the tokens and
logprobs that the requests of a case must get.

The golden tables of ``suites/a/b.yaml`` are in ``expectations/a/b/``, where ``expectations`` is next to ``suites``. If
no folder above a suite ``b.yaml`` is named ``suites``, its golden tables are in ``expectations/b/`` next to the file.
Reference outputs are in ``expectations/references/MODEL/a/b/`` or ``expectations/references/MODEL/b/``.
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from harness.runs.plain_decodes import cells_of, columns_of, lengthen, shorten
from harness.suites.discovery import SUITE_SUFFIXES
from harness.suites.schema import Model, StepTable
from harness.suites.yaml import Source, YamlError, described, read_yaml, shown_path
from harness.types import StepRow
from harness.utils.files import write_text_whole
from harness.utils.paths import resolved
from harness.utils.validation import MAPPINGS, TYPES, must_be


class GoldenError(Exception):
    """A golden file is missing, invalid, or can't be read or written. The message has the path and what to do."""


class Golden(Model):
    """The content of a golden file. ``blessed_from`` is the name of the engine that produced ``steps``."""

    suite: Annotated[str, Field(min_length=1)]
    case: Annotated[str, Field(min_length=1)]
    blessed_from: Annotated[str, Field(min_length=1)]
    steps: StepTable

    @model_validator(mode="after")
    def _rows_go_up(self) -> "Golden":
        for earlier, later in pairwise(self.steps):
            if later.step <= earlier.step:
                raise ValueError(f"steps must be in order, but step {later.step} comes after step {earlier.step}")
        return self


REFERENCES = "references"


def _home(suite_path: Path) -> tuple[Path, Path]:
    """Return (folder ``expectations`` of a suite, folder of the suite's golden tables relative to that folder)."""
    path = resolved(suite_path)
    for parent in path.parents:
        if parent.name == "suites":
            return parent.parent / "expectations", path.relative_to(parent).with_suffix("")
    return path.parent / "expectations", Path(path.stem)


def golden_folder(suite_path: Path) -> Path:
    """Return the folder with the golden files of a suite's cases."""
    home, name = _home(suite_path)
    return home / name


def golden_path(suite_path: Path, case_id: str) -> Path:
    """Return the path of a case's golden file."""
    return golden_folder(suite_path) / f"{case_id}.yaml"


def reference_folders(suite_path: Path) -> list[Path]:
    """Return the existing folders with a suite's reference outputs. There is one for each model."""
    home, name = _home(suite_path)
    return sorted(model / name for model in (home / REFERENCES).glob("*") if (model / name).is_dir())


def stale(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each file with golden tables or reference outputs whose suite does not exist any more.

    ``folder`` is the folder of the suites. Each entry is (path of the file, path at which its suite would be).
    """
    home, name = _home(folder / "any.yaml")
    suites = resolved(folder)
    for _ in name.parts[:-1]:
        suites = suites.parent
    below = name.parent
    tables = [(home / below, home, "*.yaml")]
    references = [(model / below, model, "*.json") for model in (home / REFERENCES).glob("*")]
    for root, start, pattern in (*tables, *references):
        for path in sorted(root.rglob(pattern)):
            suite = path.parent.relative_to(start)
            if suite.parts[:1] == (REFERENCES,) or not suite.parts:
                continue
            # suites/a.yaml and a.yaml next to suites/ both have their tables in expectations/a/.
            bases = (suites, home.parent, home.parent / "suites")
            places = [base / suite.with_name(suite.name + suffix) for base in bases for suffix in SUITE_SUFFIXES]
            if not any(place.is_file() for place in places):
                yield path, places[0]


def reference_path(suite_path: Path, case_id: str, model_label: str) -> Path:
    """Return the path of the file with a case's reference outputs for one model."""
    home, name = _home(suite_path)
    return home / REFERENCES / model_label / name / f"{case_id}.json"


def read_golden(path: Path, bless_command: str, of: tuple[str, str] | None = None) -> tuple[StepRow, ...]:
    """Return the rows that are in a golden file.

    The file leaves out plain decodes, that is, decode steps in which no request joins, ends or takes a block. ``of`` is
    (name of the suite, id of the case) that the file must name; with None, the names are not checked. Raises
    GoldenError if the file is missing, invalid or of another case. The message ends with ``bless_command``, the command
    that writes the file again.
    """
    golden = _read(path, bless_command)
    if of is not None and (golden.suite, golden.case) != of:
        what = f"this is the table of the case {golden.case} in {golden.suite}, not of {of[1]} in {of[0]}"
        raise GoldenError(f"{path}: {what}; to write it again:  {bless_command}")
    return golden.steps


def _read(path: Path, bless_command: str) -> Golden:
    if not path.exists():
        raise GoldenError(f"there is no golden step table {path}; to write the engine's steps to it:  {bless_command}")
    try:
        source = read_yaml(path)
        return TypeAdapter(Golden).validate_python(source.data)
    except ValidationError as error:
        what = _first_problem(path, source, error)
    except YamlError as error:
        problem = error.problems[0]
        what = f"{path}:{problem.line}:{problem.column}: {problem.what}"
    except OSError as error:
        what = f"{path}: cannot be read: {error.strerror or error}"
    raise GoldenError(f"{what}; to write it again:  {bless_command}")


def _first_problem(path: Path, source: Source, error: ValidationError) -> str:
    """Return an error message about the first mistake in a golden file. It has the file, line, column and key."""
    detail = error.errors(include_url=False)[0]
    where = source.resolve(detail["loc"])
    match detail["type"]:
        case "value_error":
            message = str(detail["ctx"]["error"])
        case "missing":
            message = f"the key `{detail['loc'][-1]}` is missing"
        case "extra_forbidden":
            message = "unknown key"
        case "too_short" | "string_too_short":
            message = "must not be empty"
        case kind:
            message = must_be(detail, "a mapping with suite, case, blessed_from and steps")
            if kind in TYPES or kind in MAPPINGS:
                message = f"{message}, not {described(source.node(where))}"
    place = source.place(where)
    return ": ".join(filter(None, [f"{path}:{place.line}:{place.column}", shown_path(where), message]))


def readable_rows(path: Path) -> list[StepRow] | None:
    """Return a row for every step of a golden file, None if the file is missing or invalid.

    The rows of plain decodes (decode steps in which no request joins, ends or takes a block), which the file leaves
    out, are computed from the rows before them.
    """
    golden = _readable(path)
    return None if golden is None else lengthen(golden.steps)


def _readable(path: Path) -> Golden | None:
    try:
        return _read(path, "")
    except GoldenError:
        return None


def write_golden(path: Path, suite: str, case: str, blessed_from: str, rows: Sequence[StepRow]) -> bool:
    """Write a golden file and return True.

    Plain decodes in ``rows`` (decode steps in which no request joins, ends or takes a block) are left out of the file.
    If the file already has the same suite, case and rows, leave it unchanged and return False, even if its
    ``blessed_from`` names another engine. Raises GoldenError if the file can't be written.
    """
    there = _readable(path)
    if there and (there.suite, there.case, lengthen(there.steps)) == (suite, case, lengthen(rows)):
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_whole(path, golden_text(suite, case, blessed_from, rows))
    except OSError as error:
        raise GoldenError(f"{path}: cannot be written: {error.strerror or error}") from error
    return True


def golden_text(suite: str, case: str, blessed_from: str, rows: Sequence[StepRow]) -> str:
    """Return the text of a golden file, with one line for each row.

    Rows of plain decodes (decode steps in which no request joins, ends or takes a block) are left out.
    """
    columns = columns_of(rows)
    cells = [list(columns)] + [[_cell(value) for value in cells_of(row, columns)] for row in shorten(rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    aligned = [_aligned(line, widths) for line in cells]
    names = {"suite": suite, "case": case, "blessed_from": blessed_from}
    head = "".join(f"{key}: {_text(value)}\n" for key, value in names.items())
    head += "steps:  # rows left out are plain decodes\n"
    header = "#   " + "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True)).rstrip()
    return head + "\n".join([header, *(f"- [ {line} ]" for line in aligned[1:])]) + "\n"


def _text(value: str) -> str:
    """Return a string as a YAML scalar, in quotes if YAML would otherwise not read it as the same string."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9 ()_.,/+-]*", value) and not value.endswith(" ")
    return value if plain and value.lower() not in _NO_TEXTS else json.dumps(value, ensure_ascii=False)


_NO_TEXTS = {"null", "true", "false", "yes", "no", "on", "off"}


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    parts = [f"{cell}," for cell in line[:-1]] + [line[-1]]
    return " ".join(part.ljust(width + 1) for part, width in zip(parts, widths, strict=True)).rstrip()


def _cell(value: Any) -> str:
    return f"[{', '.join(map(_cell, value))}]" if isinstance(value, tuple) else str(value)
