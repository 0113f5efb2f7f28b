"""Generate the page of a requirement: its sentence and rule, the cases that test it, and related invariants."""

from collections.abc import Iterator, Sequence

from docs_site.catalogue.entries import Entry, Requirement
from docs_site.markup import ROOT, Page, escaped, link, requirement_path, suite_path, table, unsearched
from harness.schedulers import SPECS
from harness.utils.text import plural

WITHIN = frozenset({"fits_context_exactly", "fits_blocks_exactly", "fits_batch_tkv_exactly"})
BEYOND = frozenset({"context_short_by_one", "blocks_short_by_one", "batch_tkv_over_by_one"})
_RULES = {"CP": "scheduling-rules-chunked.md", "TB": "scheduling-rules-token-budget.md"}
INDEX = f"{ROOT}/requirements/index.md"


def rules_page(requirement: Requirement) -> str:
    """Return the path of the page with the rule of a requirement, relative to ``docs/``."""
    return _RULES.get(requirement.name.split("-")[0], "scheduling-rules.md")


def sides(requirement: Requirement) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """Divide the cases of a requirement by how close they are to a limit. Return (within, beyond, others).

    In the cases of ``within``, a request just fits a limit. In the cases of ``beyond``, a request exceeds a limit by
    one. A case can be in both lists. ``others`` has all remaining cases.
    """
    within = [entry for entry in requirement.cases if entry.events & WITHIN]
    beyond = [entry for entry in requirement.cases if entry.events & BEYOND]
    others = [entry for entry in requirement.cases if not entry.events & (WITHIN | BEYOND)]
    return within, beyond, others


def invariants_of(requirement: Requirement) -> list[str]:
    """Return the texts of the invariants whose rule is under the same heading as the rule of the requirement."""
    begins = f'docs/{rules_page(requirement)} "{requirement.source.split(" (")[0]}"'
    rules = (rule for spec in SPECS.values() for rule in spec.invariants if rule.startswith(begins))
    return [rule.removeprefix(begins).lstrip(": ") for rule in dict.fromkeys(rules)]


def requirement_page(requirement: Requirement, rule_anchor: str, tests: Sequence[str]) -> Page:
    """Generate the page of a requirement.

    ``rule_anchor`` is the anchor of the heading of the requirement's rule. ``tests`` are the ids of the unit tests that
    are marked with the requirement.
    """
    path = requirement_path(requirement.name)
    rule = link(escaped(requirement.source), rules_page(requirement), path, rule_anchor)
    parts = [
        f"# {requirement.name}",
        f"**{escaped(requirement.must)}**",
        f"Rule: {rule}. {link('All requirements', INDEX, path)}.",
        *(_by_tests(tests) if requirement.by_tests else _by_cases(requirement, path)),
        *_by_invariants(requirement),
    ]
    return Page(path, "\n\n".join(parts) + "\n")


def _by_tests(tests: Sequence[str]) -> Iterator[str]:
    covered = f"It is tested by {plural(len(tests), 'unit test')} of the reference engine:"
    yield f"No case can observe this requirement. {covered}"
    yield "\n".join(f"- `{test}`" for test in tests)


def _by_invariants(requirement: Requirement) -> Iterator[str]:
    if invariants := invariants_of(requirement):
        yield "## Invariants"
        yield (
            "These invariants belong to the same rule. They are checked after every step of every scheduler-step and "
            "output case with this scheduler:"
        )
        yield "\n".join(f"- {escaped(invariant)}" for invariant in invariants)


def _by_cases(requirement: Requirement, path: str) -> Iterator[str]:
    within, beyond, others = sides(requirement)
    suites = len({entry.suite for entry in requirement.cases})
    yield f"Tested by {plural(len(requirement.cases), 'case')} in {plural(suites, 'suite')}."
    if not (within and beyond):
        yield _listed(requirement.cases, path)
        return
    yield f"## Just within a limit ({len(within)})"
    yield "In each of these cases, a request fits a limit that it would exceed if the limit were smaller by one."
    yield _listed(within, path)
    yield f"## One beyond a limit ({len(beyond)})"
    yield "In each of these cases, a request exceeds a limit that it would fit if the limit were larger by one."
    yield _listed(beyond, path)
    if others:
        yield f"## Other cases ({len(others)})"
        yield _listed(others, path)


def _listed(entries: Sequence[Entry], path: str) -> str:
    rows = [
        [link(entry.case.id, suite_path(entry.suite), path, entry.case.id), escaped(entry.case.about), entry.suite]
        for entry in entries
    ]
    return unsearched(table(["case", "about", "suite"], rows))
