"""Tests that this package changes nothing in a pytest session, unless the session runs suites."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.utils.environment import DEFAULTS
from spyre_cb.options import FORMER, OPTIONS
from tests.helpers.pytest_runs import GOOD, run, write

NOTHING_GLOBAL = """\
import gc, os, sys

def test_nothing_is_changed():
    assert not [name for name in sys.modules if name.partition(".")[0] in ("harness", "engine", "checkpoints")]
    assert not VARIABLES & {*os.environ}
    assert gc.isenabled() and gc.get_freeze_count() == 0

def test_what_a_session_has(request):
    assert request.config.pluginmanager.has_plugin("hypothesispytest")
    assert not request.config.option.continue_on_collection_errors
    assert not [line for line in request.config.getini("markers") if line.startswith("scheduler_steps")]
    assert not request.config.pluginmanager.has_plugin("spyre-cb-session")
"""
MARK = "engine under test"
"""Text in the header of a session with suites."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with tests of its own, a suite in a folder that is not configured, and other YAML files."""
    for name in DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(NOTHING_GLOBAL.replace("VARIABLES", repr({*DEFAULTS})))
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "a.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {}\n")
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine", good=GOOD)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


@pytest.mark.parametrize(
    "arguments", ["", "tests", "tests charts", "-n2", "-n2 tests", "-n auto --forked tests", "--ignore=mine ."]
)
def test_nothing_happens_without_suites(folder: Path, arguments: str) -> None:
    done = run(folder, *arguments.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert MARK not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [(".", ""), (".", "-n2"), ("mine", "--forked"), ("mine/good.yaml", "-n2"), ("tests mine", "")],
)
def test_suites_that_are_named_are_collected(folder: Path, arguments: str, mode: str) -> None:
    (folder / "tests" / "test_it.py").write_text("def test_it(): pass\n")
    done = run(folder, "--cb-simulate", *arguments.split(), *mode.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert MARK in done.stdout
    assert f"{2 if 'tests' in arguments or arguments == '.' else 1} passed" in done.stdout


@pytest.mark.parametrize(("arguments", "count"), [("", 2), (".", 2), ("tests", 1), ("mine", 1), ("-n2", 2)])
def test_an_ini_setting_says_where_suites_are(folder: Path, arguments: str, count: int) -> None:
    (folder / "tests" / "test_it.py").write_text("def test_it(): pass\n")
    (folder / "pytest.ini").write_text("[pytest]\ncb_suites = mine\n")
    simulate = [] if arguments == "tests" else ["--cb-simulate"]
    done = run(folder, *simulate, *arguments.split())
    assert f"{count} passed" in done.stdout, done.stdout + done.stderr
    assert (MARK in done.stdout) == (arguments != "tests")


def test_in_a_folder_of_the_ini_setting_every_file_is_a_suite(folder: Path) -> None:
    (folder / "pytest.ini").write_text("[pytest]\ncb_suites = mine\n")
    (folder / "mine" / "wrong.yaml").write_text("a: 1\n")
    done = run(folder, "mine", "--cb-simulate")
    assert done.returncode == 1
    assert "mine/wrong.yaml:1:1: this file is not a suite" in done.stdout
    assert "1 passed" in done.stdout, "one malformed suite does not keep the others from running"
    assert "wrong.yaml" not in run(folder, "mine", "--cb-simulate", "-o", "cb_suites=").stdout


def test_a_file_that_is_named_and_is_no_suite_is_an_error(folder: Path) -> None:
    for mode in ((), ("-n2",)):
        done = run(folder, "compose.yaml", *mode)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "compose.yaml:1:1: this file is not a suite" in done.stdout


def test_an_option_of_ours_is_asking_for_it(folder: Path) -> None:
    (folder / "tests" / "test_it.py").write_text("def test_it(): pass\n")
    assert "2 passed" in run(folder, "--cb-simulate").stdout


def test_plugins_may_be_turned_off(folder: Path) -> None:
    done = run(folder, "-p", "no:spyre-cb", ".")
    assert done.returncode == 0
    assert "2 passed" in done.stdout


def test_every_option_has_a_former_name() -> None:
    assert set(FORMER.values()) == {option.in_pytest for option in OPTIONS}
    assert FORMER["--driver"] == "--cb-driver"
    assert FORMER["--html-report"] == "--cb-html"


@pytest.mark.parametrize("typed", ["--driver vllm mine", "--html-report=x.html -n2 mine", "mine/good.yaml --bless"])
def test_a_former_name_is_refused_with_the_new_one(typed: str, folder: Path) -> None:
    former = next(word for word in typed.replace("=", " ").split() if word in FORMER)
    done = run(folder, *typed.split())
    assert done.returncode == 4
    assert f"ERROR: {former} is now {FORMER[former]} " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_other_peoples_options_stay_theirs(folder: Path) -> None:
    """A conftest.py may define an option that is also an old name of one of ours, such as ``--driver``.

    Without suites, pytest's message about an unknown option is unchanged.
    """
    (folder / "tests" / "test_it.py").write_text("def test_it(request): assert request.config.option.driver == 'x'\n")
    assert "unrecognized arguments: --driver" in run(folder, "--driver=x", "tests").stderr
    (folder / "conftest.py").write_text("def pytest_addoption(parser): parser.addoption('--driver')\n")
    done = run(folder, "--driver=x", "--cb-simulate", "tests", "mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--cb-driver=none", "argument --cb-driver: invalid choice: 'none' (choose from reference, simulation, vllm"),
        ("--cb-policy=none", "argument --cb-policy: invalid choice: 'none' (choose from "),
        ("--cb-max-tests=-1", "argument --cb-max-tests: must be at least 1, and a whole number, not '-1'"),
        ("--cb-retries=x", "argument --cb-retries: must be a whole number of at least 0, not 'x'"),
    ],
)
def test_a_wrong_value_is_one_sentence(arguments: str, says: str, folder: Path) -> None:
    done = run(folder, arguments, "mine")
    assert done.returncode == 4
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_every_option_is_in_a_group_of_ours() -> None:
    command = [sys.executable, "-m", "pytest", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    groups = {line.removesuffix(":") for line in shown.splitlines() if line.startswith("spyre-cb: ")}
    assert groups == {f"spyre-cb: {option.group}" for option in OPTIONS}
    assert all(f"  {option.in_pytest}" in shown for option in OPTIONS)
    assert all(option.in_pytest.startswith("--cb-") for option in OPTIONS)
