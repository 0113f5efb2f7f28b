"""Tests of symbolic links among suites, and of suites outside pytest's root folder."""

from pathlib import Path

import pytest

from harness.cli import main
from harness.report.reading import read_run
from tests.helpers.pytest_runs import GOOD, run, simulated, write

TEST = "five-lines[tiny-granite-eager]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a suite and with links: two to itself, two to another folder, and one to the suite."""
    (tmp_path / "inner").mkdir()
    write(tmp_path, mine=GOOD)
    write(tmp_path / "inner", other=GOOD.replace("suite: mine", "suite: other"))
    (tmp_path / "again").symlink_to(".")
    (tmp_path / "inner" / "up").symlink_to("..")
    (tmp_path / "twice").symlink_to("inner")
    (tmp_path / "same.yaml").symlink_to("mine.yaml")
    return tmp_path


def test_each_suite_is_collected_once_whichever_links_lead_to_it(folder: Path) -> None:
    done = simulated(folder, ".", "-rA")
    assert done.returncode == 0, done.stdout
    assert "collected 2 items" in done.stdout


def test_spyre_cb_cases_lists_each_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["cases", "."]) == 0
    assert capsys.readouterr().out.endswith("2 suites, 2 cases, 2 tests\n")


def test_a_suite_that_is_named_twice_runs_twice(folder: Path) -> None:
    done = simulated(folder, "mine.yaml", "same.yaml")
    assert "2 passed" in done.stdout


def test_a_dangling_link_is_an_error_with_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "inner" / "gone.yaml").symlink_to("nowhere.yaml")
    says = "inner/gone.yaml: is a link to nowhere.yaml, which does not exist"
    done = simulated(folder, ".")
    assert done.returncode == 1
    assert says in done.stdout
    assert "2 passed, 1 error" in done.stdout
    monkeypatch.chdir(folder)
    assert main(["cases", "."]) == 2
    assert capsys.readouterr().err == f"spyre-cb: {says}\n"


@pytest.mark.parametrize(
    "command", [["init"], ["cases"], ["trace", "--simulate"], ["run"], ["search", "--workloads", "1", "--write"]]
)
def test_a_link_to_itself_is_an_error_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    monkeypatch.chdir(tmp_path)
    assert main([*command, "loop.yaml"]) == 2
    assert "loop.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [("loop.yaml",), ("mine.yaml", "--cb-known-failures", "loop.yaml"), (".",)],
)
def test_a_link_to_itself_is_no_internal_error_of_pytest(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write(tmp_path, mine=GOOD)
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    done = simulated(tmp_path, *arguments)
    assert done.returncode in (1, 4)
    assert "loop.yaml" in done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr


def test_a_suite_that_does_not_exist_is_no_internal_error_of_pytest(tmp_path: Path) -> None:
    done = simulated(tmp_path, "no-suite.yaml")
    assert done.returncode == 4
    assert "file or directory not found: no-suite.yaml" in done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr


def test_a_suite_outside_the_root_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "pytest.ini").write_text("[pytest]\n")
    write(tmp_path, bad="suite: bad\nkind: nonsense\ncases: []\n", good=GOOD)
    files = (str(tmp_path / "bad.yaml"), str(tmp_path / "good.yaml"))
    done = simulated(tmp_path / "root", "--rootdir", ".", "-c", "pytest.ini", "--cb-results", "r.jsonl", *files)
    assert "ERROR ../bad.yaml" in done.stdout
    names = [result["test"] for result in read_run(tmp_path / "root" / "r.jsonl").results]
    assert sorted(names) == ["../bad.yaml", f"../good.yaml::{TEST}"]


def test_a_run_that_pytest_timeout_kills_names_its_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, mine=GOOD)
    (tmp_path / "conftest.py").write_text("import time\ndef pytest_runtest_call(): time.sleep(60)\n")
    done = run(tmp_path, "mine.yaml", "--timeout", "1", "--timeout-method", "thread", "--cb-results", "r.jsonl")
    assert done.returncode == 1, done.stdout
    monkeypatch.chdir(tmp_path)
    assert main(["report", "r.jsonl", "--html", "r.html"]) == 1
    assert f"or is still running (running: mine.yaml::{TEST})" in capsys.readouterr().out
    assert main(["compare", "r.jsonl", "r.jsonl"]) == 2


def test_a_full_disk_for_results_is_one_sentence_and_the_run_goes_on(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD)
    done = simulated(tmp_path, "mine.yaml", "--cb-results", "/dev/full")
    assert done.returncode == 3
    assert "1 passed" in done.stdout
    assert "ERROR: --cb-results /dev/full: cannot be written: No space left on device" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
