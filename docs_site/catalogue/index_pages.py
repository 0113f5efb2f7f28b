"""Generate the first page of the catalogue, and the page with the list of requirements."""

from collections.abc import Sequence

from docs_site.catalogue.entries import Catalogue, SuiteEntry
from docs_site.catalogue.requirement_page import INDEX, rules_page, sides
from docs_site.catalogue.suite_page import counted
from docs_site.markup import ROOT, Page, escaped, link, requirement_path, suite_path, table
from harness.utils.text import plural

FIRST = f"{ROOT}/index.md"
GROUPS = {
    "Scheduler steps, continuous": ("scheduler_steps", "continuous"),
    "Scheduler steps, chunked": ("scheduler_steps", "chunked"),
    "Scheduler steps, token budget": ("scheduler_steps", "token_budget"),
    "Output": ("output", None),
    "Behaviour": ("behaviour", None),
}
"""The groups of suites in the catalogue, by name: (kind of the suites, their scheduler or None for any scheduler).

Every suite is in one group.
"""


def grouped(catalogue: Catalogue) -> dict[str, list[SuiteEntry]]:
    """Return the suites of each group, in the order of their names. Raises ValueError if a suite is in no group."""
    found: dict[str, list[SuiteEntry]] = {name: [] for name in GROUPS}
    for suite in catalogue.suites:
        found[_group(suite)].append(suite)
    return found


def _group(suite: SuiteEntry) -> str:
    kind, scheduler = suite.loaded.suite.kind, suite.loaded.suite.parameters.scheduler[0]
    for name, group in GROUPS.items():
        if group in ((kind, scheduler), (kind, None)):
            return name
    raise ValueError(
        f"{suite.name}: the catalogue has no group for {kind} suites with the scheduler {scheduler}: add one to GROUPS"
    )


def first_page(catalogue: Catalogue) -> Page:
    """Generate the first page: numbers of cases and tests, the suites of each group, and how to read a suite's page."""
    cases, tests = counted(catalogue.suites)
    left = sum(requirement.by_tests for requirement in catalogue.requirements)
    parts = [
        "# Catalogue",
        "The catalogue shows what each case tests, and what a correct engine does in each step of the case. It has "
        f"{plural(cases, 'case')} in {plural(len(catalogue.suites), 'suite')}. With the built-in model, these are "
        f"{plural(tests, 'test')}. The cases test {len(catalogue.requirements) - left} of the "
        f"{link(f'{len(catalogue.requirements)} requirements', INDEX, FIRST)}; unit tests of the reference engine test "
        f"the other {left}.",
        _HOW_TO_READ,
        *(_group_part(name, suites) for name, suites in grouped(catalogue).items()),
    ]
    return Page(FIRST, "\n\n".join(parts) + "\n")


_HOW_TO_READ = """\
To find a case, type its id into the search. Each case has a step table. Plain decodes, in which every running request
gets one token and nothing else changes except tkv, share a row such as 3–30. [Schedulers](../schedulers.md) explains
the columns, and the rules explain the terms ([continuous](../scheduling-rules.md#words),
[chunked](../scheduling-rules-chunked.md#words), [token budget](../scheduling-rules-token-budget.md#words)). The
sentences in the column *what happens* come from the scheduler model, an independent implementation of the rules that
shares no code with the engine. The time-line below a table has a lane for each request.

Tables and time-lines come from runs of the reference engine's scheduler without a model. The build of this site fails
if a table differs from the golden table with which the suites compare an engine."""


def _group_part(name: str, suites: Sequence[SuiteEntry]) -> str:
    cases, tests = counted(suites)
    rows = [
        [
            link(suite.name, suite_path(suite.name), FIRST),
            escaped(suite.loaded.suite.about),
            str(len(suite.cases)),
            str(suite.tests),
        ]
        for suite in suites
    ]
    total = f"{plural(cases, 'case')}, {plural(tests, 'test')}."
    return f"## {name}\n\n{total}\n\n{table(['suite', 'about', 'cases', 'tests'], rows)}"


def requirements_page(catalogue: Catalogue) -> Page:
    """Generate the page of requirements.

    It has, for each requirement, the numbers of all cases, of cases just within a limit, and of cases just beyond one.
    """
    by_rules: dict[str, list[list[str]]] = {}
    for requirement in catalogue.requirements:
        within, beyond, _ = sides(requirement)
        cases = "by tests" if requirement.by_tests else str(len(requirement.cases))
        both = [str(len(within) or "–"), str(len(beyond) or "–")]
        name = link(requirement.name, requirement_path(requirement.name), INDEX)
        by_rules.setdefault(rules_page(requirement), []).append([name, escaped(requirement.must), cases, *both])
    parts = [
        "# Requirements",
        f"This page lists the {len(catalogue.requirements)} requirements on an engine, with the key words of RFC "
        "2119, and how many cases test each. The column *within* has the number of cases in which a request just fits "
        "a limit, and the column *beyond* the number of cases in which a request exceeds a limit by one token, block "
        "or unit. *By tests* means that no case can observe the requirement, so unit tests of the reference engine "
        "test it.",
    ]
    for rules, rows in by_rules.items():
        parts.append(f"## {_TITLES[rules]}\n\n{link('The rules', rules, INDEX)}.")
        parts.append(table(["id", "requirement", "cases", "within", "beyond"], rows))
    return Page(INDEX, "\n\n".join(parts) + "\n")


_TITLES = {
    "scheduling-rules.md": "Continuous",
    "scheduling-rules-chunked.md": "Chunked",
    "scheduling-rules-token-budget.md": "Token budget",
}
