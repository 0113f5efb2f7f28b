"""Tests of ``spyre-cb run``, ``init``, ``completion`` and ``--version``: pytest arguments, written files and output."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli import command_parser, main
from harness.cli.run import apart, pytest_arguments
from harness.suites import shipped
from spyre_cb.options import OPTIONS
from tests.helpers.paths import ROOT
from tests.helpers.pytest_runs import GOOD, run

FIRST = ROOT / "harness" / "cli" / "first_suite"


def handed(*typed: str) -> list[str]:
    """Return the arguments that ``spyre-cb run`` passes to pytest for the words of a command line."""
    mine, for_pytest = apart(["run", *typed])
    arguments = command_parser().parse_args(mine)
    arguments.for_pytest = for_pytest
    return pytest_arguments(arguments)


def test_help_names_the_options_of_this_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--isolation" in text
    assert "--cb-" not in text


def test_short_names_become_those_of_pytest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(GOOD)
    typed = "mine.yaml::five-lines -m cb -k x -n 2 --driver simulation --html p.html --shard 1/2 --plot --retries 0"
    assert handed(*typed.split(), "--durations-from", "a", "--durations-from", "b", "--", "-x", "-k", "y") == [
        *("-m", "cb", "-k", "x", "-n", "2"),
        *(
            "--cb-driver=simulation",
            "--cb-shard=1/2",
            "--cb-durations-from=a",
            "--cb-durations-from=b",
            "--cb-retries=0",
        ),
        *("--cb-html=p.html", "--cb-plot", "-x", "-k", "y", "mine.yaml::five-lines"),
    ]


@pytest.mark.parametrize("count", ["-1", "x", "1.5", ""])
def test_a_number_of_workers_that_is_none_is_refused(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", f"-n{count}" if count else "-n="]) == 2
    assert "argument -n: must be a whole number of at least 0, or auto, not " in capsys.readouterr().err


def test_every_option_of_pytest_has_a_short_name() -> None:
    values = {"driver": "vllm", "attention": "fms", "serve": "vllm", "policy": "exact", "references": "compute"}
    values |= {"isolation": "case", "start-processes": "spawn", "shard": "1/2", "max-tests": "3"}
    values |= {"case-timeout": "1.5", "retries": "1"}
    for option in OPTIONS:
        value = values.get(option.name, "x")
        typed = [f"--{option.name}"] if option.flag else [f"--{option.name}", value]
        expected = option.in_pytest if option.flag else f"{option.in_pytest}={value}"
        assert expected in handed("suites", *typed)


def test_suites_of_the_package_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    *settings, path = handed("suites/scheduler_steps/joining.yaml::x")
    assert path == f"{ROOT / 'suites/scheduler_steps/joining.yaml'}::x"
    assert settings[:3] == [f"--rootdir={ROOT}", "-c", str(ROOT / "spyre_cb" / "pytest.ini")]
    assert handed()[-1] == str(ROOT / "suites")
    (tmp_path / "suites").mkdir()
    assert handed() == ["suites"], "those that are here go first"
    monkeypatch.chdir(ROOT)
    assert handed() == ["suites"]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("run nowhere.yaml", "spyre-cb: nowhere.yaml: no such file or folder, neither here nor among the suites of"),
        ("run --driver x", "spyre-cb run: argument --driver: invalid choice: 'x' (choose from reference, "),
        ("run --case-timeout -3", "must be a number of seconds"),
        ("run --shard 3/2", "argument --shard: 3/2: the part must be from 1 to 2"),
        ("run --cb-driver x", "unrecognized arguments: --cb-driver"),
        ("completion tcsh", "invalid choice: 'tcsh'"),
        ("--version --jsn", "unrecognized arguments: --jsn"),
    ],
)
def test_what_is_typed_wrongly_is_one_sentence(typed: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1


def test_it_runs_pytest_and_ends_as_pytest_does(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    command = [sys.executable, "-m", "harness", "run", "mine.yaml", "--simulate", "--results", "r.jsonl", "--"]
    done = subprocess.run([*command, "-v"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert (tmp_path / "r.jsonl").is_file()
    nothing = subprocess.run([*command, "-k", "none"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert nothing.returncode == 5


def test_where_an_installation_has_its_suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package installed from a wheel has its suites in the package spyre_cb; a checkout has them at its root."""
    for name in ("spyre_cb", "harness", "engine", "checkpoints"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "spyre_cb").unlink()
    (tmp_path / "spyre_cb").mkdir()
    for each in [*(ROOT / "spyre_cb").iterdir(), ROOT / "suites", ROOT / "expectations"]:
        (tmp_path / "spyre_cb" / each.name).symlink_to(each)
    monkeypatch.setattr(shipped, "PACKAGES", tmp_path)
    shipped.shipped.cache_clear()
    assert shipped.shipped() == tmp_path / "spyre_cb"
    assert shipped.is_installed_copy()
    shipped.shipped.cache_clear()
    monkeypatch.undo()
    assert shipped.shipped() == ROOT
    assert not shipped.is_installed_copy()


def test_init_writes_a_suite_that_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "mine")]) == 0
    written = {path.relative_to(tmp_path / "mine").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        "first.yaml",
        "expectations/first/one-joins-another.yaml",
        "expectations/references/tiny-granite/first/one-joins-another.json",
        "suite.schema.json",
        ".vscode/settings.json",
    }
    assert f"spyre-cb run {tmp_path / 'mine'}" in capsys.readouterr().out
    first_line = (tmp_path / "mine" / "first.yaml").read_text().splitlines()[0]
    assert first_line == "# yaml-language-server: $schema=suite.schema.json"
    done = run(tmp_path, "mine", CI="true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert main(["init", str(tmp_path / "mine")]) == 2
    assert "first.yaml exists already" in capsys.readouterr().err


def test_init_in_a_folder_called_suites(tmp_path: Path) -> None:
    """``spyre-cb init suites`` writes the folder ``expectations`` next to the folder ``suites``, not into it."""
    assert main(["init", str(tmp_path / "suites")]) == 0
    assert (tmp_path / "expectations" / "first" / "one-joins-another.yaml").is_file()


def test_what_the_first_suite_expects_is_what_the_engine_does(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text((FIRST / "first.yaml").read_text())
    done = run(tmp_path, "first.yaml", "--cb-bless")
    assert done.returncode == 0, done.stdout + done.stderr
    for file in (path for path in (FIRST / "expectations").rglob("*") if path.is_file()):
        ours, blessed = (folder / file.relative_to(FIRST) for folder in (FIRST, tmp_path))
        if file.suffix == ".yaml":
            assert _without_versions(blessed) == _without_versions(ours)
        else:
            for ours_of_one, blessed_of_one in zip(_sequences(ours), _sequences(blessed), strict=True):
                # Processors differ in the last digits of logprobs.
                tokens = [pytest.approx(token, rel=1e-4) for token in ours_of_one["tokens"]]
                assert blessed_of_one == ours_of_one | {"tokens": tokens}


def _without_versions(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if "blessed_from" not in line]


def _sequences(file: Path) -> list[dict[str, Any]]:
    sequences: list[dict[str, Any]] = json.loads(file.read_text())["sequences"]
    return sequences


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version", "--json"]) == 0
    versions = json.loads(capsys.readouterr().out)
    assert versions["pytest"] == pytest.__version__
    assert set(versions) >= {"spyre-cb", "python", "torch", "ibm-fms", "transformers", "vllm"}
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["spyre-cb", versions["spyre-cb"]]


def test_lists_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "tiny-granite"
    assert main(["cards", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("completion") / "spyre-cb.bash"
    printed = subprocess.run(
        [sys.executable, "-m", "harness", "completion", "bash"], capture_output=True, text=True, timeout=60, check=True
    )
    file.write_text(printed.stdout)
    return file


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["ru"], ["run"]),
        (["run", "--dri"], ["--driver"]),
        (["run", "--driver", "vl"], ["vllm"]),
        (["run", "--isolation", ""], ["case", "engine", "none"]),
        (["run", "--isolation", "=", "e"], ["engine"]),
        (["models", "fe"], ["fetch"]),
        (["cases", "first.y"], ["first.yaml"]),
    ],
)
def test_bash_completes(script: Path, typed: list[str], offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "first.yaml").touch()
    words = " ".join(f"'{word}'" for word in ["spyre-cb", *typed])
    completion = (
        f'. {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _spyre_cb; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", completion], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    assert done.stdout.split() == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("run", "init", "cases", "completion", "no-progress", "reference"))
