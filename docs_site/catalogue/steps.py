"""Run a case, and return its step table with a sentence for each row, and its time-line.

The case is run on the scheduler of the reference engine, without a model. The steps must be those of the case's golden
table, so that tables and pictures of the catalogue cannot differ from what the suites check.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from docs_site.catalogue.entries import MODEL, Entry
from harness.cases.steps import expected_rows
from harness.cases.test import Test
from harness.cases.workload import Workload, prepare
from harness.checks.steps import cell_text
from harness.drivers.engine_pool import EnginePool
from harness.golden.tables import GoldenError
from harness.runs.plain_decodes import as_row, columns_of, lengthen, shorten
from harness.suites.schema import MODELS_OF_THE_RUN, OutputCase, StepsCase
from harness.timeline import as_svg, time_line
from harness.types import Run, SchedulingLimits, StepRow

HOVER = re.compile(r'<rect class="hover".*?</rect>\n?', re.DOTALL)
"""The elements of a picture that show the numbers of a step when the pointer is over them."""


class StaleTableError(Exception):
    """The golden table of a case is missing or differs from the steps of the engine. The message is one sentence."""


@dataclass(frozen=True)
class Line:
    """A line of a step table, for one step or for consecutive decodes in which no request joins, ends or takes a block.

    ``number`` is the number of the step or a range such as ``9–14``. ``what`` is a sentence about what happens in the
    step, without a full stop.
    """

    number: str
    what: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class CaseSteps:
    """The steps of a case. ``columns`` are the columns of the scheduler's step tables, without the column ``step``.

    ``picture`` is the time-line, as SVG without a style sheet.
    """

    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    picture: str


def steps_of(entry: Entry, engines: EnginePool) -> CaseSteps | None:
    """Run a case and return its steps.

    Return None for a behaviour case, and for a case whose steps depend on the tokens that a model generates. Raises
    StaleTableError if the steps differ from the golden table of the case, or if the case does not end.
    """
    case = entry.case
    if not isinstance(case, StepsCase | OutputCase) or not all(request.can_be_simulated for request in case.requests):
        return None
    if entry.loaded.suite.parameters.model not in ((MODELS_OF_THE_RUN,), (MODEL,)):
        return None
    expanded = entry.tests[0]
    expanded = replace(expanded, configuration=replace(expanded.configuration, backend="eager", tensor_parallel_size=1))
    test = Test(entry.loaded.path, entry.suite, expanded, engines.driver.capabilities, _blessing(entry))
    session = engines.session(expanded.setup)
    workload = prepare(test, case, session.reset(SchedulingLimits(**expanded.limits.model_dump())))
    run = workload.run(session)
    if run.unfinished is not None:
        raise StaleTableError(f"{entry.place}: {run.unfinished}")
    if isinstance(case, StepsCase):
        _compare(entry, test, case, run)
    rows = list(map(as_row, run.steps))
    columns = columns_of(rows)[1:]
    return CaseSteps(columns, tuple(_lines(workload, run, rows, columns)), _picture(entry, workload, run))


def _blessing(entry: Entry) -> str:
    return f'python -m pytest "{entry.place}" --cb-bless'


def _compare(entry: Entry, test: Test, case: StepsCase, run: Run) -> None:
    """Raise StaleTableError if the steps of a run differ from the case's golden table, or if there is no table."""
    try:
        wanted = expected_rows(test, case)
    except GoldenError as error:
        raise StaleTableError(str(error)) from error
    if shorten(wanted) == shorten(map(as_row, run.steps)):
        return
    pairs = zip(lengthen(shorten(wanted)), map(as_row, run.steps), strict=False)
    first = next((row.step for row, seen in pairs if row != seen), len(run.steps))
    raise StaleTableError(
        f"{entry.place}: the golden table is stale: step {first} is not that of the reference engine; "
        f"to write the table again:  {_blessing(entry)}"
    )


def _lines(workload: Workload, run: Run, rows: Sequence[StepRow], columns: Sequence[str]) -> Iterator[Line]:
    """Yield a line for each step, but only one line for consecutive plain decodes.

    Plain decodes are decode steps in which no request joins, ends or takes a block.
    """
    before: StepRow | None = None
    for row in shorten(rows):
        if before is not None and row.step > before.step + 1:
            first, last = rows[before.step + 1], rows[row.step - 1]
            yield _line(workload, run, first, last, columns)
        yield _line(workload, run, row, row, columns)
        before = row


def _line(workload: Workload, run: Run, first: StepRow, last: StepRow, columns: Sequence[str]) -> Line:
    number, what = str(first.step), _explained(workload, run, first.step)
    if first is not last:
        number = f"{first.step}–{last.step}"
        # If the sentence has other numbers in the last step, say for which step it is.
        what = what if _explained(workload, run, last.step) == what else f"{what} (in step {first.step})"
    return Line(number, what, tuple(_cell(first, last, column) for column in columns))


def _explained(workload: Workload, run: Run, step: int) -> str:
    return (workload.explain(run, step) or run.steps[step].kind).removeprefix(f"step {step}: ")


def _cell(first: StepRow, last: StepRow, column: str) -> str:
    begin, end = cell_text(getattr(first, column)), cell_text(getattr(last, column))
    return begin if begin == end else f"{begin}–{end}"


def _picture(entry: Entry, workload: Workload, run: Run) -> str:
    options = asdict(workload.options) if workload.options is not None else {}
    picture = as_svg(time_line(run.steps, workload.sizes, options), alone=False, title=f"Time-line of {entry.case.id}")
    # The table above the picture has these numbers. In the picture they would be a twelfth of the site's size.
    return HOVER.sub("", picture)
