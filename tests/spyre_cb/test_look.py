"""Tests of how suites are distinguished from other YAML files, and of which folders are searched for suites."""

from pathlib import Path

import pytest

from harness.suites.loader import load_suite
from harness.suites.schema.suites import AnySuite
from spyre_cb.look import NOT_SUITES, SUITE_KEYS, files_below, has_suite, looks_like_suite, may_be_suite
from tests.helpers.paths import ROOT

OURS = {
    "as it should be": "suite: mine\nkind: output\ncases: []\n",
    "kind misspelt": "suite: mine\nknd: output\ncases: []\n",
    "suite misspelt": "siute: mine\nkind: output\ncases: []\n",
    "cases misspelt": "suite: mine\nkind: output\ncsaes: []\n",
    "one key alone": "suite: mine\n",
    "a kind alone": "kind: output\n",
    "below a marker and a comment": "---\n# about it\n\nsuite: mine\nkind: output\n",
    "quoted keys": "\"suite\": mine\n'kind': output\n",
    "with a byte order mark": "\ufeffsuite: mine\nkind: output\n",
    "in braces": "{suite: mine, kind: output, cases: [{id: a, requests: []}]}\n",
    "with a key that no suite has": "suite: mine\nkind: output\ncases: []\nowner: me\n",
    "line ends of another system": "suite: mine\r\nkind: output\r\n",
    "a tab where none may be": "suite: mine\nkind: output\ncases:\n\t- id: x\n",
}
FOREIGN = {
    "compose": "services:\n  web:\n    image: nginx\n    kind: output\n",
    "mkdocs": "site_name: Docs\nnav:\n  - Home: index.md\n",
    "kubernetes": "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 1\n",
    "helm": "{{- if .Values.on }}\napiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Release.Name }}\n{{- end }}\n",
    "helm-unittest": "suite: deployment\ntemplates:\n  - deployment.yaml\ntests:\n  - it: works\n",
    "helm-unittest, short": "suite: deployment\ntests: []\n",
    "several documents": "apiVersion: v1\nkind: A\nmetadata: {}\n---\nsuite: mine\nkind: output\n",
    "github": "name: CI\non: [push]\njobs:\n  test:\n    runs-on: x\n",
    "drone": "kind: pipeline\ntype: docker\nname: default\nsteps: []\n",
    "a list": "- suite: mine\n  kind: output\n",
    "keys further in": "all:\n  suite: mine\n  kind: output\n",
    "a url as a key": "suite:mine\nkind:output\n",
    "empty": "",
    "a scalar": "hello",
    "json of another": '{"kind": "List", "items": []}',
}


@pytest.mark.parametrize("text", OURS.values(), ids=OURS)
def test_a_suite_is_known_even_where_something_is_wrong(text: str, tmp_path: Path) -> None:
    (tmp_path / "any.yaml").write_bytes(text.encode())
    assert looks_like_suite(tmp_path / "any.yaml")


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_other_peoples_yaml_is_not_ours(text: str, tmp_path: Path) -> None:
    (tmp_path / "any.yaml").write_bytes(text.encode())
    assert not looks_like_suite(tmp_path / "any.yaml")


def test_what_cannot_be_read_is_no_suite(tmp_path: Path) -> None:
    assert not looks_like_suite(tmp_path / "not-there.yaml")
    (tmp_path / "bytes.yaml").write_bytes(bytes(range(256)) * 10)
    assert not looks_like_suite(tmp_path / "bytes.yaml")


def test_every_suite_of_ours_is_known_and_nothing_else_is() -> None:
    files = [*(ROOT / "suites").rglob("*.yaml"), *(ROOT / "expectations").rglob("*.yaml")]
    known = {path for path in files if looks_like_suite(path)}
    assert known == {path for path in (ROOT / "suites").rglob("*.yaml") if path.name not in NOT_SUITES}
    assert all(load_suite(path).suite.cases for path in sorted(known)[:3])


def test_the_keys_are_those_of_the_schema() -> None:
    assert set(AnySuite.model_fields) == SUITE_KEYS


def test_folders_count_from_the_one_that_was_named(tmp_path: Path) -> None:
    inside = tmp_path / ".venv" / "expectations" / "suites"
    assert may_be_suite(inside / "mine.yaml", inside)
    assert not may_be_suite(inside / "mine.yaml", tmp_path)
    assert not may_be_suite(inside / "expectations" / "mine.yaml", inside)
    assert not may_be_suite(inside / "requirements.yaml", inside)
    assert not may_be_suite(inside / "mine.json", inside)


def test_a_folder_that_leads_back_to_itself_is_gone_through_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.yaml").write_text(OURS["as it should be"])
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert [*files_below(tmp_path, lambda _: False)] == [tmp_path / "a" / "mine.yaml"]
    assert has_suite(tmp_path, lambda _: False)
    assert not has_suite(tmp_path, lambda path: path.name == "a")
    assert not has_suite(tmp_path / "nowhere", lambda _: False)
