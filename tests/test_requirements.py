"""Tests that every requirement is tested by a case or a test, and that every case lists its requirements."""

import ast
from pathlib import Path

import pytest

from checkpoints import resolve
from harness.cases.compared import has_reference
from harness.cli import main
from harness.golden.tables import reference_path
from harness.references import Oracle
from harness.references.stopping import end_of, wanted_for
from harness.references.values import widened
from harness.suites.discovery import NOT_SUITES
from harness.suites.loader import LoadedSuite, load_suite
from harness.suites.prompts import request_spec, vocabulary_of
from harness.suites.schema import OutputCase
from harness.suites.yaml import read_yaml
from tests.helpers.paths import ROOT

KINDS = ("scheduler_steps", "output", "behaviour")
PATHS = sorted(p for p in (ROOT / "suites").rglob("*.yaml") if p.name not in NOT_SUITES)
REQUIREMENTS = read_yaml(ROOT / "suites" / "requirements.yaml").data["requirements"]


def named(suite: LoadedSuite) -> set[str]:
    return {name for case in suite.suite.cases for name in case.requirement}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_case_names_requirements_that_exist(path: Path) -> None:
    loaded = load_suite(path)
    assert [case.id for case in loaded.suite.cases if not case.requirement] == []
    assert named(loaded) - set(REQUIREMENTS) == set()


def left_to_tests() -> set[str]:
    return {name for name, entry in REQUIREMENTS.items() if entry.get("by") == "tests"}


def marked_in_tests() -> set[str]:
    """Return the ids of the requirements that tests of the project name with ``@pytest.mark.requirement``."""
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    calls = (node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    marks = (call for call in calls if ast.unparse(call.func) == "pytest.mark.requirement")
    return {ast.literal_eval(argument) for mark in marks for argument in mark.args}


def test_every_requirement_is_tested() -> None:
    tested = set().union(*(named(load_suite(path)) for path in PATHS))
    assert set(REQUIREMENTS) - tested - left_to_tests() == set()


def test_what_is_left_to_tests_is_named_by_some_and_by_no_case() -> None:
    assert marked_in_tests() == left_to_tests()
    assert not left_to_tests() & set().union(*(named(load_suite(path)) for path in PATHS))


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_a_sentence_with_must_and_a_source(name: str) -> None:
    entry = REQUIREMENTS[name]
    assert set(entry) - {"by"} == {"source", "must"}
    assert entry.get("by") in (None, "tests")
    assert "MUST" in entry["must"]
    assert entry["must"].endswith(".")
    rules = {"CP": "scheduling-rules-chunked.md", "TB": "scheduling-rules-token-budget.md"}.get(
        name.split("-")[0], "scheduling-rules.md"
    )
    headings = [
        line.lstrip("# ").split(" (")[0]
        for line in (ROOT / "docs" / rules).read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    ]
    assert any(heading.startswith(entry["source"]) for heading in headings), entry["source"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_suite_is_named_by_its_path(path: Path) -> None:
    loaded = load_suite(path)
    assert loaded.suite.suite == str(path.relative_to(ROOT / "suites").with_suffix(""))
    folder = loaded.suite.suite.split("/")[0]
    assert folder not in KINDS or loaded.suite.kind == folder


def test_every_golden_table_belongs_to_a_case() -> None:
    wanted = {
        ROOT / "expectations" / loaded.suite.suite / f"{case.id}.yaml"
        for loaded in map(load_suite, PATHS)
        for case in loaded.suite.cases
        if getattr(case.expect, "steps", None) == "golden"
    }
    # Suites outside suites/ may also have tables in expectations/; ignore those.
    kinds = {path.parent.name for path in PATHS}
    there = {path for kind in kinds for path in (ROOT / "expectations" / kind).rglob("*.yaml")}
    assert there == wanted


def test_there_are_enough_scenarios_and_no_id_twice() -> None:
    ids = [case.id for path in PATHS for case in load_suite(path).suite.cases]
    assert len(ids) == len(set(ids))
    assert sum(load_suite(path).suite.kind == "scheduler_steps" for path in PATHS) >= 10
    assert sum(len(load_suite(p).suite.cases) for p in PATHS if p.parent.name == "scheduler_steps") >= 60


def test_every_case_that_needs_a_reference_has_it_on_disk(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["references", "--check", str(ROOT / "suites")])
    assert status == 0, capsys.readouterr().out + "write them:  spyre-cb references"


def test_every_file_of_references_belongs_to_a_case() -> None:
    wanted = {
        Path(loaded.suite.suite) / f"{case.id}.json"
        for loaded in map(load_suite, PATHS)
        for case in loaded.suite.cases
        if has_reference(case)
    }
    models = [folder for folder in (ROOT / "expectations" / "references").iterdir() if folder.is_dir()]
    assert [folder.name for folder in models] == ["tiny-granite"]
    for folder in models:
        assert {path.relative_to(folder) for path in folder.rglob("*.json")} <= wanted


def test_there_are_enough_output_cases_and_the_early_ones_end_early() -> None:
    suites = [load_suite(path).suite for path in PATHS if path.parent.name == "output"]
    assert sum(len(suite.cases) for suite in suites) >= 40
    [stopping] = [suite for suite in suites if suite.suite == "output/stopping"]
    checkpoint = resolve("tiny-granite")
    vocabulary = vocabulary_of(checkpoint)
    for case in stopping.cases:
        assert isinstance(case, OutputCase)
        specs = [request_spec(request, case.id, i, vocabulary) for i, request in enumerate(case.requests)]
        wanted = widened([wanted_for(spec, vocabulary) for spec in specs])
        file = reference_path(ROOT / "suites" / "output" / "stopping.yaml", case.id, checkpoint.label)
        references = Oracle(may_compute=False).references(checkpoint, wanted, file)
        ends = [end_of(r.upto(s.max_tokens).token_ids, s, vocabulary) for r, s in zip(references, specs, strict=True)]
        assert any(ends), case.id
