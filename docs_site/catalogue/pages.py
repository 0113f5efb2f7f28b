"""Generate all pages of the catalogue."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from docs_site.catalogue.anchors import marked_tests, rule_anchor
from docs_site.catalogue.entries import Catalogue
from docs_site.catalogue.index_pages import first_page, requirements_page
from docs_site.catalogue.mutations import PAGE, caught_by_case
from docs_site.catalogue.requirement_page import requirement_page, rules_page
from docs_site.catalogue.steps import steps_of
from docs_site.catalogue.suite_page import suite_page
from docs_site.markup import Page
from harness.drivers.engine_pool import EnginePool
from harness.drivers.registry import DEFAULT, DriverOptions, make_driver


def catalogue_pages(catalogue: Catalogue, root: Path) -> Iterator[Page]:
    """Yield every page of the catalogue. ``root`` is the folder of the project.

    Raises StaleTableError if a golden table differs from the steps of the reference engine, and ValueError if a
    requirement names a rule that no page has.
    """
    yield first_page(catalogue)
    yield requirements_page(catalogue)
    tests = marked_tests(root / "tests")
    for requirement in catalogue.requirements:
        anchor = rule_anchor(root / "docs" / rules_page(requirement), requirement.source)
        yield requirement_page(requirement, anchor, tests.get(requirement.name, ()))
    caught = caught_by_case(root / "docs" / PAGE)
    engines = EnginePool(make_driver(DEFAULT, DriverOptions(simulate=True)))
    try:
        for suite in catalogue.suites:
            yield suite_page(catalogue, suite, partial(steps_of, engines=engines), caught)
    finally:
        engines.close()
