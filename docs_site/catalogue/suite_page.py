"""Generate the page of a suite: for each case its ``about``, description, requirements, step table and time-line."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape

from docs_site.catalogue.entries import Catalogue, Entry, SuiteEntry
from docs_site.catalogue.mutations import PAGE, in_words
from docs_site.catalogue.steps import CaseSteps, Line
from docs_site.markup import Page, code, escaped, link, requirement_path, slot, smaller, suite_path, unsearched
from harness.utils.text import plural

StepsOf = Callable[[Entry], CaseSteps | None]
Caught = Mapping[str, Sequence[tuple[str, str]]]


def suite_page(catalogue: Catalogue, suite: SuiteEntry, steps_of: StepsOf, caught: Caught) -> Page:
    """Generate the page of a suite.

    ``steps_of`` returns the steps of a case. ``caught`` has the mutations (injected faults) that each case detects, by
    the id of the case.
    """
    path = suite_path(suite.name)
    steps = {entry.case.id: steps_of(entry) for entry in suite.cases}
    about = suite.loaded.suite.about
    parts = [
        f"# {suite.name}",
        escaped(about) if about else "",
        f"{plural(len(suite.cases), 'case')}, {plural(suite.tests, 'test')} with the built-in model. "
        f"Run them: {code(f'python -m pytest suites/{suite.name}{suite.loaded.path.suffix}')}",
    ]
    for entry in suite.cases:
        parts += _case(catalogue, entry, path, caught.get(entry.case.id, ()))
    slots = {entry.case.id: _slot_html(entry, steps[entry.case.id]) for entry in suite.cases}
    return Page(path, "\n\n".join(filter(None, parts)) + "\n", slots)


def _case(catalogue: Catalogue, entry: Entry, path: str, caught: Sequence[tuple[str, str]]) -> Iterator[str]:
    case = entry.case
    yield f"## {case.id} {{ #{case.id} }}"
    yield escaped(case.about)
    parts = ["\n".join(f"- {escaped(line)}" for line in case.described().splitlines()), *_events(entry)]
    if case.requirement:
        requirements = (
            f"- {link(name, requirement_path(name), path)} {escaped(catalogue.by_requirement[name].must)}"
            for name in case.requirement
        )
        parts += ["Requirements:", "\n".join(requirements)]
    yield unsearched("\n\n".join(parts))
    if caught:
        yield f"This case fails for an engine that would ({link('mutations', PAGE, path)}):"
        yield in_words(caught)
    yield slot(case.id)


def _events(entry: Entry) -> Iterator[str]:
    for key, words in (("happens", "Must happen"), ("never", "Must not happen")):
        if happenings := getattr(entry.case, key, ()):
            yield f"{words}: {', '.join(code(str(each)) for each in happenings)}."


def _slot_html(entry: Entry, steps: CaseSteps | None) -> str:
    return ("" if steps is None else steps_html(entry.case.id, steps)) + details_html(entry)


def details_html(entry: Entry) -> str:
    """Return a ``details`` element with the tests of a case, their markers, their command, and the YAML of the case."""
    line, source = entry.loaded.source_of_case(entry.tests[0].index)
    suite = entry.loaded.suite
    tests = "".join(
        f"<li><code>{escape(test.configuration.label)}</code> {' '.join(test.markers(suite))}</li>"
        for test in entry.tests
    )
    place = f"suites/{entry.suite}{entry.loaded.path.suffix}"
    return (
        f"<details><summary>{plural(len(entry.tests), 'test')}, and the source</summary>"
        f"<p>Configurations, with their markers:</p><ul>{tests}</ul>"
        f"<div class=highlight><pre tabindex=0><code>python -m pytest {escape(entry.place)}</code></pre></div>"
        f"<p>Line {line} of <code>{place}</code>:</p>"
        f"<div class=highlight><pre tabindex=0><code>{escape(source)}</code></pre></div></details>"
    )


def steps_html(name: str, steps: CaseSteps) -> str:
    """Return the HTML of the step table and of the time-line of a case. ``name`` is the id of the case.

    If the page is narrow, the table and the time-line scroll horizontally.
    """
    head = "".join(f"<th scope=col>{column}</th>" for column in ("step", "what happens", *steps.columns))
    body = "".join(map(_row, steps.lines))
    label = f"Step table of {escape(name)}"
    rows = f"<table class=step-table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return (
        f'<div class="steps" role=region tabindex=0 aria-label="{label}">{rows}</div>'
        f'<div class="picture" role=region tabindex=0 aria-label="Time-line of {escape(name)}">'
        f"{smaller(steps.picture)}</div>"
    )


def _row(line: Line) -> str:
    """Return the HTML of a table row, without the optional end tags, because the site has thousands of rows."""
    cells = "".join(f"<td>{escape(cell)}" for cell in line.cells)
    return f"<tr><th scope=row>{line.number}<td>{escape(line.what)}{cells}"


def counted(suites: Sequence[SuiteEntry]) -> tuple[int, int]:
    """Return the number of cases and the number of tests of these suites together."""
    return sum(len(suite.cases) for suite in suites), sum(suite.tests for suite in suites)
