"""Tests of how named checks are found."""

from pathlib import Path

import pytest

from harness.cases.behaviour.named import CHECKS, find


def test_a_check_of_another_package_is_found() -> None:
    assert find("json:dumps") is not None
    assert find("half-closed-connection") is CHECKS["half-closed-connection"]


@pytest.mark.parametrize(
    "name", ["nothing", ":", ".:x", "..a:b", "a b:c", "\0:a", "nomodule.x:f", "json:", "json:nothing", "os:path"]
)
def test_a_name_of_no_function_is_no_check(name: str) -> None:
    assert find(name) is None


def test_a_module_that_raises_has_no_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_that_raises.py").write_text("raise SystemError('broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find("module_that_raises:check") is None
