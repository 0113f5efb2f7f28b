"""The first page of the catalogue, with counts, and the list of requirements."""

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
"""The groups of suites: for each, the kind and the scheduler (None for any). Every suite is in one group."""


def grouped(catalogue: Catalogue) -> dict[str, list[SuiteEntry]]:
    """Return the suites of each group, in the order of their names. Raises ValueError for a suite without a group."""
    found: dict[str, list[SuiteEntry]] = {name: [] for name in GROUPS}
    for suite in catalogue.suites:
        found[_group(suite)].append(suite)
    return found


def _group(suite: SuiteEntry) -> str:
    kind, scheduler = suite.loaded.suite.kind, suite.loaded.suite.parameters.scheduler[0]
    for name, group in GROUPS.items():
        if group in ((kind, scheduler), (kind, None)):
            return name
    raise ValueError(f"{suite.name}: no group of the catalogue is for {kind} suites of scheduler {scheduler}")


def first_page(catalogue: Catalogue) -> Page:
    """Return the first page: counts, the suites of each group, and how to find a case."""
    cases, tests = counted(catalogue.suites)
    left = sum(requirement.by_tests for requirement in catalogue.requirements)
    parts = [
        "# Catalogue",
        f"{plural(cases, 'case')} in {plural(len(catalogue.suites), 'suite')}, which are {plural(tests, 'test')} with "
        f"the built-in model. They test {len(catalogue.requirements) - left} of the "
        f"{link(f'{len(catalogue.requirements)} requirements', INDEX, FIRST)}; tests of the reference engine cover the "
        f"other {left}.",
        _HOW_TO_READ,
        *(_group_part(name, suites) for name, suites in grouped(catalogue).items()),
    ]
    return Page(FIRST, "\n\n".join(parts) + "\n")


_HOW_TO_READ = """\
To find a case, type its id into the search. Each case has a table with a row for every step that changes anything, and
a row such as 3–30 for plain decodes in between: every request that runs gets one token, and tkv grows by 1. Its columns
are explained in [Schedulers](../schedulers.md), the terms in the rules ([continuous](../scheduling-rules.md#words),
[chunked](../scheduling-rules-chunked.md#words), [token budget](../scheduling-rules-token-budget.md#words)). Sentences
in *what happens* come from a model of the rules that shares no code with the engine. The time-line below a table has a
lane for each request; point at a step to read its numbers.

Tables and time-lines are those of the reference engine without a model. The build of this site fails if one differs
from the golden table that the suites compare engines with."""


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
    """Return the list of requirements: the cases of each, and how many are just within and just beyond a limit."""
    by_rules: dict[str, list[list[str]]] = {}
    for requirement in catalogue.requirements:
        within, beyond, _ = sides(requirement)
        cases = "by tests" if requirement.by_tests else str(len(requirement.cases))
        both = [str(len(within) or "–"), str(len(beyond) or "–")]
        name = link(requirement.name, requirement_path(requirement.name), INDEX)
        by_rules.setdefault(rules_page(requirement), []).append([name, escaped(requirement.must), cases, *both])
    parts = [
        "# Requirements",
        f"{len(catalogue.requirements)} requirements, with the key words of RFC 2119. *Within* and *beyond* count the "
        "cases in which a request just fits a limit, and those in which it is one token, block or unit beyond it. "
        "*By tests*: no case can observe the requirement, so tests of the reference engine cover it.",
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
