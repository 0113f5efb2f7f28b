"""Tests of the generated catalogue of cases.

The counts are right, requirements list cases on both sides of their limit, and an outdated golden table is an error.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs_site.catalogue.anchors import marked_tests, rule_anchor
from docs_site.catalogue.entries import Catalogue, Entry, read_catalogue
from docs_site.catalogue.index_pages import first_page, grouped, requirements_page
from docs_site.catalogue.mutations import PAGE, caught_by_case, with_links
from docs_site.catalogue.requirement_page import requirement_page
from docs_site.catalogue.steps import StaleTableError, steps_of
from docs_site.catalogue.suite_page import suite_page
from docs_site.markup import suite_path
from harness.drivers.engine_pool import EnginePool
from harness.drivers.reference import SimulationDriver
from tests.harness.mutations.engine import SCHEDULE_MUTATIONS
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue(ROOT / "suites")


@pytest.fixture
def engines() -> Iterator[EnginePool]:
    pool = EnginePool(SimulationDriver())
    yield pool
    pool.close()


def entry_of(catalogue: Catalogue, case: str) -> Entry:
    return next(entry for entry in catalogue.cases if entry.case.id == case)


def test_every_suite_is_in_one_group_and_counts_add_up(catalogue: Catalogue) -> None:
    names = [suite.name for suites in grouped(catalogue).values() for suite in suites]
    assert sorted(names) == sorted(suite.name for suite in catalogue.suites)
    text = first_page(catalogue).markdown
    assert f"{len(list(catalogue.cases))} cases in {len(catalogue.suites)} suites" in text


def test_every_step_is_in_one_row(catalogue: Catalogue, engines: EnginePool) -> None:
    steps = steps_of(entry_of(catalogue, "new-sequence-joins-during-decode"), engines)
    assert steps is not None
    numbers: list[int] = []
    for line in steps.lines:
        first, _, last = line.number.partition("–")
        numbers += range(int(first), int(last or first) + 1)
    assert numbers == list(range(71))
    by_number = {line.number: line for line in steps.lines}
    assert by_number["3–30"].what.startswith("decode of 0")
    assert by_number["3–30"].cells[0] == "66–93"
    assert by_number["32"].what == "prefill of 1, admissible at tkv 94"


def test_a_page_says_what_a_step_does(catalogue: Catalogue, engines: EnginePool) -> None:
    [suite] = [suite for suite in catalogue.suites if suite.name == "scheduler_steps/chunked_pausing"]
    page = suite_page(catalogue, suite, lambda entry: steps_of(entry, engines), {"two-take-turns": [("jump", "wrong")]})
    about = "The limit allows one of three requests to decode at a time, so they take turns."
    assert f"## three-take-turns {{ #three-take-turns }}\n\n{about}" in page.markdown
    row = page.slots["three-take-turns"].split("<th scope=row>9<td>")[1].split("<tr>")[0]
    assert row.startswith("decode of 0,")
    assert "[CP-PAUSE-02](../requirements/CP-PAUSE-02.md)" in page.markdown
    assert page.markdown.count("- jump: “wrong”") == 1


def test_a_case_lists_the_mutations_that_it_catches_and_their_page_links_to_it(catalogue: Catalogue) -> None:
    caught = caught_by_case(ROOT / "docs" / PAGE)
    assert ("hand out block 0", "holds the padding block") in caught["requests-use-all-available-blocks"]
    places = {entry.case.id: suite_path(entry.suite) for entry in catalogue.cases}
    assert set(caught) <= set(places)
    linked = with_links((ROOT / "docs" / PAGE).read_text(encoding="utf-8"), places)
    case = "requests-use-all-available-blocks"
    assert f"| hand out block 0 | [`{case}`]({places[case]}#{case}) | holds the padding block |" in linked


def test_a_requirement_lists_cases_on_both_sides_of_its_limit(catalogue: Catalogue) -> None:
    page = requirement_page(catalogue.by_requirement["CB-ADMIT-03"], "admission", ()).markdown
    within, beyond = page.split("## One beyond a limit")
    assert "[joiner-fits-the-context-exactly](" in within
    assert "[three-run-and-the-joiner-is-one-token-too-long](" in beyond
    assert int(page.split("Tested by ")[1].split()[0]) > 20


def test_a_requirement_without_both_sides_has_one_list_and_its_invariants(catalogue: Catalogue) -> None:
    page = requirement_page(catalogue.by_requirement["CB-BLOCK-04"], "words", ()).markdown
    assert "limit" not in page
    assert "[requests-use-all-available-blocks](" in page
    assert "- a block belongs to one sequence until this sequence ends; block 0 belongs to none" in page


def test_a_requirement_without_cases_lists_tests(catalogue: Catalogue) -> None:
    tests = marked_tests(ROOT / "tests")
    for requirement in catalogue.requirements:
        assert bool(tests.get(requirement.name)) == requirement.by_tests
    page = requirement_page(catalogue.by_requirement["CB-DECODE-03"], "decode", tests["CB-DECODE-03"]).markdown
    assert "No case can observe this requirement" in page
    assert "- `tests/engine/" in page
    assert "by tests" in requirements_page(catalogue).markdown


def test_the_rule_of_a_requirement_has_to_be_a_heading() -> None:
    rules = ROOT / "docs" / "scheduling-rules.md"
    assert rule_anchor(rules, "Prefill") == "prefill-of-a-prompt-of-length-l"
    with pytest.raises(ValueError, match="no heading begins with 'Nowhere'"):
        rule_anchor(rules, "Nowhere")


def test_a_stale_table_is_an_error(tmp_path: Path, engines: EnginePool) -> None:
    for folder in ("suites", "expectations"):
        copied = shutil.ignore_patterns("references")
        shutil.copytree(ROOT / folder / "scheduler_steps", tmp_path / folder / "scheduler_steps", ignore=copied)
    shutil.copy(ROOT / "suites" / "requirements.yaml", tmp_path / "suites")
    table = tmp_path / "expectations" / "scheduler_steps" / "chunked_pausing" / "three-take-turns.yaml"
    text = table.read_text(encoding="utf-8")
    entry = entry_of(read_catalogue(tmp_path / "suites"), "three-take-turns")
    assert steps_of(entry, engines) is not None
    table.write_text(text.replace("- [ 9,    42,", "- [ 9,    43,"), encoding="utf-8")
    with pytest.raises(StaleTableError, match=r"the golden table is stale: step 9 is not .*--cb-bless"):
        steps_of(entry, engines)
    table.unlink()
    with pytest.raises(StaleTableError, match="there is no golden step table"):
        steps_of(entry, engines)


def test_an_engine_with_a_mutation_is_not_drawn(
    catalogue: Catalogue, engines: EnginePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    next(each for each in SCHEDULE_MUTATIONS if each.name == "context one too lax where three run").patch(monkeypatch)
    with pytest.raises(StaleTableError, match="step 6 is not that of the reference engine"):
        steps_of(entry_of(catalogue, "three-run-and-the-joiner-is-one-token-too-long"), engines)
