"""Every requirement is tested by some case, and every case says which requirement it tests."""

from pathlib import Path

import pytest

from harness.loader import LoadedSuite, load_suite
from harness.yaml_source import read_yaml

ROOT = Path(__file__).resolve().parents[1]
PATHS = sorted(p for p in (ROOT / "suites").rglob("*.yaml") if p.name != "requirements.yaml")
REQUIREMENTS = read_yaml(ROOT / "suites" / "requirements.yaml").data["requirements"]


def named(suite: LoadedSuite) -> set[str]:
    return {name for case in suite.suite.cases for name in case.requirement}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_case_names_requirements_that_exist(path: Path) -> None:
    loaded = load_suite(path)
    assert [case.id for case in loaded.suite.cases if not case.requirement] == []
    assert named(loaded) - set(REQUIREMENTS) == set()


def test_every_requirement_is_tested() -> None:
    tested = set().union(*(named(load_suite(path)) for path in PATHS))
    assert set(REQUIREMENTS) - tested == set()


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_a_sentence_with_must_and_a_source(name: str) -> None:
    entry = REQUIREMENTS[name]
    assert set(entry) == {"source", "must"}
    assert "MUST" in entry["must"]
    assert entry["must"].endswith(".")
    headings = [
        line.lstrip("# ").split(" (")[0]
        for line in (ROOT / "docs" / "scheduling-rules.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    ]
    assert any(heading.startswith(entry["source"]) for heading in headings), entry["source"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_suite_is_named_by_its_path(path: Path) -> None:
    loaded = load_suite(path)
    assert loaded.suite.suite == str(path.relative_to(ROOT / "suites").with_suffix(""))
    assert loaded.suite.kind == loaded.suite.suite.split("/")[0]


def test_every_golden_table_belongs_to_a_case() -> None:
    wanted = {
        ROOT / "expectations" / loaded.suite.suite / f"{case.id}.yaml"
        for loaded in map(load_suite, PATHS)
        for case in loaded.suite.cases
        if getattr(case.expect, "steps", None) == "golden"
    }
    # Suites that somebody tries out beside suites/ keep their tables in expectations/ too: those are not ours.
    kinds = {path.parent.name for path in PATHS}
    there = {path for kind in kinds for path in (ROOT / "expectations" / kind).rglob("*.yaml")}
    assert there == wanted


def test_there_are_enough_scenarios_and_no_id_twice() -> None:
    ids = [case.id for path in PATHS for case in load_suite(path).suite.cases]
    assert len(ids) == len(set(ids))
    assert sum(load_suite(path).suite.kind == "scheduler_steps" for path in PATHS) >= 10
    assert sum(len(load_suite(p).suite.cases) for p in PATHS if p.parent.name == "scheduler_steps") >= 60
