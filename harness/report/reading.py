"""Read results files, which ``pytest --cb-results FILE`` writes.

A results file has a line of JSON for the header, for each test and for the footer. The footer is missing if the run was
not finished. Then the last line has the tests that were running.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.lines import FooterLine, HeaderLine, Line, ResultLine, RunningLine, problem_of
from harness.report.outcomes import Record, counts_of, named
from harness.report.tested import leases_of

FORMAT = 2
"""Version of the format of results files. In version 1, the rows of step tables were lists without column names."""


class ResultsError(ValueError):
    """A file is not a results file, or one with another version of the format. The message is one sentence."""


INTERRUPTED = (2, 3)
"""Exit statuses of pytest after which results are missing: interrupted, and an error of pytest itself."""


class NotFiniteError(ValueError):
    """NaN or infinity, which Python's JSON has and JSON does not."""


@dataclass(frozen=True)
class Recorded:
    """A run, from its results file. ``footer`` is None if the run was not finished, so that results are missing.

    ``running``: the tests that ran when the run ended, in the order of their start.
    """

    path: Path
    header: Record
    results: tuple[Record, ...]
    footer: Record | None
    running: tuple[str, ...] = ()

    @property
    def engine(self) -> str:
        return str(self.header.get("engine", "unknown engine"))

    @property
    def incomplete(self) -> str:
        """Return a sentence about why results are missing, empty if none are."""
        if self.footer is None:
            return f"the results are incomplete: the run was not finished, or is still running{named(self.running)}"
        if stopped := self.footer.get("stopped"):
            return f"the results are incomplete: the run ended early ({stopped})"
        if self.footer.get("exitstatus", 0) in INTERRUPTED:
            return f"the results are incomplete: the run was interrupted{named(self.running)}"
        return ""


def read_run(path: Path) -> Recorded:
    """Read a results file, which may be that of a run that was not finished. Raises ResultsError."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ResultsError(
            f"{path}: this file is not UTF-8 text (byte {error.start}), so not a results file"
        ) from error
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror or error}") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    records = [_record(path, number, line, number == numbered[-1][0]) for number, line in numbered]
    whole = [record for record in records if record is not None]
    if not whole or "header" not in whole[0]:
        raise ResultsError(f"{path}: this is not a results file (pytest --cb-results FILE): the header is missing")
    if type(version := whole[0]["header"]) is not int or version != FORMAT:
        again = f"{whole[0].get('command', 'pytest')} --cb-results FILE"
        what = f"this file has results format {version!r}, but format {FORMAT} is needed; to create it again:  {again}"
        raise ResultsError(f"{path}: {what}")
    footer = whole[-1] if "footer" in whole[-1] else None
    for (number, _), record in zip(numbered, whole, strict=False):
        if problem := problem_of(record, _form(record, whole)):
            raise ResultsError(f"{path}:{number}: {problem}")
    last = whole[-1] if whole[-1].keys() & {"running", "footer"} else {}
    results = whole[1:-1] if last else whole[1:]
    return Recorded(path, whole[0], tuple(results), footer, tuple(last.get("running", ())))


def _form(record: Record, whole: Sequence[Record]) -> type[Line]:
    if record is whole[0]:
        return HeaderLine
    if record is whole[-1] and "footer" in record:
        return FooterLine
    return RunningLine if record is whole[-1] and "running" in record else ResultLine


def _record(path: Path, number: int, line: str, last: bool) -> Record | None:
    """Return the record in a line, None if it is the last line of the file and incomplete."""
    try:
        record = json.loads(line, parse_constant=_refuse_constant)
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ResultsError(f"{path}:{number}: has half of a character (a lone surrogate)") from None
    except NotFiniteError as error:
        raise ResultsError(f"{path}:{number}: {error} is not a number of JSON") from None
    except (ValueError, RecursionError):
        if last and number > 1:
            return None
        what = "this line is not JSON. Is this a results file, written with --cb-results FILE?"
        raise ResultsError(f"{path}:{number}: {what}") from None
    if not isinstance(record, dict):
        raise ResultsError(f"{path}:{number}: this line is not the result of a test")
    return record


def _refuse_constant(name: str) -> None:
    raise NotFiniteError(name)


def merged(runs: Sequence[Recorded]) -> Recorded:
    """Merge several runs, such as the shards of a nightly run, or runs of different engines.

    If several runs of the same engine have a test, its result is that of the run that began last. If the runs are of
    different engines, each result is marked with its engine.
    """
    if len(runs) == 1:
        return runs[0]
    engines = {run.engine for run in runs}
    results: dict[tuple[str, str], Record] = {}
    for run in sorted(runs, key=lambda run: float(run.header.get("began", 0.0))):
        for result in run.results:
            record = {**result, "engine": run.engine} if len(engines) > 1 else result
            results[run.engine, str(result["test"])] = record
    footers = [run.footer for run in runs]
    return Recorded(
        runs[0].path,
        _merged_header([run.header for run in runs]),
        tuple(results.values()),
        _merged_footer([footer for footer in footers if footer is not None], results) if all(footers) else None,
        tuple(name for run in runs for name in run.running),
    )


def _merged_header(headers: Sequence[Record]) -> Record:
    def all_of(name: str) -> list[object]:
        return list(dict.fromkeys(value for header in headers for value in header.get(name, ())))

    return {
        **headers[0],
        "engine": "; ".join(dict.fromkeys(str(header.get("engine", "unknown engine")) for header in headers)),
        "models": all_of("models"),
        "command": "\n".join(dict.fromkeys(str(header.get("command", "")) for header in headers)),
        "digests": {name: digest for header in headers for name, digest in header.get("digests", {}).items()},
        **({"cards": all_of("cards")} if any("cards" in header for header in headers) else {}),
        "simulated": any(header.get("simulated") for header in headers),
        "began": min(float(header.get("began", 0.0)) for header in headers),
    }


def _merged_footer(footers: Sequence[Record], results: Mapping[tuple[str, str], Record]) -> Record:
    requirements = {name: fields for footer in footers for name, fields in footer.get("requirements", {}).items()}
    return {
        "footer": 1,
        "digests": {name: digest for footer in footers for name, digest in footer.get("digests", {}).items()},
        "leases": leases_of(results.values()),
        "counts": counts_of(results.values()),
        "stopped": "; ".join(dict.fromkeys(filter(None, (footer.get("stopped", "") for footer in footers)))),
        "exitstatus": max(int(footer.get("exitstatus", 0)) for footer in footers),
        "seconds": sum(float(footer.get("seconds", 0.0)) for footer in footers),
        "compiled": list(dict.fromkeys(line for footer in footers for line in footer.get("compiled", ()))),
        "backends": list(dict.fromkeys(line for footer in footers for line in footer.get("backends", ()))),
        "requirements": requirements,
    }
