"""Tests of the built packages, and of the commands of an installation.

The package is installed without extras, next to other plugins, and with the engine.
"""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from spyre_cb.options import FORMER
from tests.spyre_cb.conftest import Guest
from tests.spyre_cb.installed import ROOT, Environment, environment

FIRST_SUITE = ROOT / "harness" / "cli" / "first_suite" / "first.yaml"
SIMULATED = ("spyre-cb", "run", "suites/scheduler_steps/joining.yaml", "--simulate")
NO_ENGINE = "torch, transformers and ibm-fms are not installed here: pip install 'spyre-cb[engine]'"
NO_SUITE = "compose.yaml:1:1: this file is not a suite: the keys `suite` and `kind` are missing"

ONE_SENTENCE: tuple[tuple[str, str], ...] = (
    ("spyre-cb run mine", f"--cb-driver reference: {NO_ENGINE}"),
    ("python -m pytest mine", f"--cb-driver reference: {NO_ENGINE}"),
    ("spyre-cb trace mine/first.yaml", f"--driver reference: {NO_ENGINE}"),
    ("spyre-cb search --workloads 0 --model-laws 1", f"--driver reference: {NO_ENGINE}"),
    ("spyre-cb references --check", NO_ENGINE),
    ("spyre-cb serve", "the server needs the package fastapi: pip install 'spyre-cb[server]'"),
    ("spyre-cb run mine --driver vllm", "and vLLM is installed; to install: pip install vllm-spyre==1.6.1"),
    (
        "spyre-cb run mine --driver openai-http --serve vllm",
        "and vLLM is installed; to install: pip install vllm-spyre==1.6.1",
    ),
    (
        "spyre-cb run mine --driver openai-http --serve reference",
        "torch, transformers, ibm-fms, fastapi, uvicorn, prometheus-client, httpx and openai are not installed "
        "here: pip install 'spyre-cb[engine,server,http]'",
    ),
    (
        "spyre-cb run mine --driver openai-http --server-url http://127.0.0.1:1",
        "httpx and openai are not installed here: pip install 'spyre-cb[http]'",
    ),
    ("spyre-cb run compose.yaml", NO_SUITE),
    ("python -m pytest compose.yaml", NO_SUITE),
    ("spyre-cb cases compose.yaml", NO_SUITE),
    ("python -m pytest mine --simulate", "--simulate is now --cb-simulate "),
    ("python -m pytest mine --html-report=x.html", "--html-report is now --cb-html "),
)
"""Commands that end with one line on stderr, and what it says."""


def _run(guest: Guest, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the guest's environment. It must exit with status 0 and print nothing to stderr."""
    done = guest.environment.run(folder, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done


def _copy_first_suite(folder: Path) -> None:
    (folder / "mine").mkdir()
    shutil.copy(FIRST_SUITE, folder / "mine")


def _files_of_checkout(folder: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}


def test_the_wheel_carries_suites_expectations_and_the_model(guest: Guest) -> None:
    with zipfile.ZipFile(guest.wheel) as wheel:
        names = set(wheel.namelist())
    data = _files_of_checkout("suites") | _files_of_checkout("expectations")
    assert len(data) > 500
    assert {f"spyre_cb/{name}" for name in data} <= names
    assert {name for name in _files_of_checkout("checkpoints/tiny_granite") if "__pycache__" not in name} <= names
    assert {"spyre_cb/suite.schema.json", "spyre_cb/pytest.ini", "harness/cli/first_suite/first.yaml"} <= names
    assert {name.partition("/")[0] for name in names} - {"spyre_cb-0.1.0.dist-info"} == {
        *("checkpoints", "engine", "harness", "spyre_cb")
    }


def test_metadata_is_valid_and_needs_no_torch_without_extras(guest: Guest) -> None:
    """The metadata is valid for a package index, and the description has a content type, as ``twine check`` requires.

    Without extras, the package does not require torch.
    """
    with zipfile.ZipFile(guest.wheel) as wheel:
        in_wheel = Metadata.from_email(wheel.read("spyre_cb-0.1.0.dist-info/METADATA"))
    with tarfile.open(guest.sdist) as sdist:
        member = sdist.extractfile("spyre_cb-0.1.0/PKG-INFO")
        assert member is not None
        in_sdist = Metadata.from_email(member.read())
    for metadata in (in_wheel, in_sdist):
        assert metadata.description_content_type == "text/markdown"
        assert (metadata.description or "").startswith("# spyre-cb")
        required = {each.name for each in metadata.requires_dist or [] if each.marker is None}
        assert "pytest" in required
        assert not required & {"torch", "transformers", "ibm-fms", "numba", "fastapi", "openai"}


def test_suites_run_next_to_other_plugins(guest: Guest, tmp_path: Path) -> None:
    done = _run(guest, tmp_path, *SIMULATED, "-n", "2", "--results", "r.jsonl", "--html", "page.html")
    assert "13 passed, 13 skipped" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} <= {"r.jsonl", "page.html", ".pytest_cache", ".hypothesis"}
    assert "<html" in (tmp_path / "page.html").read_text()
    reported = _run(guest, tmp_path, "spyre-cb", "report", "r.jsonl", "--html", "again.html", "--junit", "j.xml")
    assert "again.html" in reported.stdout
    compared = _run(guest, tmp_path, "spyre-cb", "compare", "r.jsonl", "r.jsonl", "--json")
    assert json.loads(compared.stdout)["counts"]["same"] == 26


def test_a_first_suite(guest: Guest, tmp_path: Path) -> None:
    made = _run(guest, tmp_path, "spyre-cb", "init", "mine")
    assert made.stdout.splitlines()[:2] == ["mine/first.yaml", "mine/expectations/first/one-joins-another.yaml"]
    assert "1 passed" in _run(guest, tmp_path, "spyre-cb", "run", "mine", "--simulate").stdout
    assert "1 passed" in _run(guest, tmp_path, "python", "-m", "pytest", "mine/first.yaml", "--cb-simulate").stdout
    (tmp_path / "pytest.ini").write_text("[pytest]\ncb_suites = mine\n")
    assert "1 passed" in _run(guest, tmp_path, "python", "-m", "pytest", "--cb-simulate").stdout
    schema = _run(guest, tmp_path, "spyre-cb", "schema").stdout
    assert (tmp_path / "mine" / "suite.schema.json").read_text() == schema
    with zipfile.ZipFile(guest.wheel) as wheel:
        assert wheel.read("spyre_cb/suite.schema.json").decode() == schema


def test_commands_for_scripts_and_shells(guest: Guest, tmp_path: Path) -> None:
    versions = json.loads(_run(guest, tmp_path, "spyre-cb", "--version", "--json").stdout)
    assert versions["spyre-cb"] == "0.1.0"
    assert versions["torch"] is None
    listed = json.loads(_run(guest, tmp_path, "spyre-cb", "cases", SIMULATED[2], "--json").stdout)
    assert listed["counts"]["tests"] == 26
    assert "no failure found" in _run(guest, tmp_path, "spyre-cb", "search", "--workloads", "20").stdout
    traced = json.loads(_run(guest, tmp_path, "spyre-cb", "trace", SIMULATED[2], "--simulate").stdout)
    assert len(traced) == 13
    assert "complete -" in _run(guest, tmp_path, "spyre-cb", "completion", "bash").stdout


@pytest.mark.parametrize(("command", "says"), ONE_SENTENCE, ids=[command for command, _ in ONE_SENTENCE])
def test_what_is_missing_or_wrong_is_one_sentence(command: str, says: str, guest: Guest, tmp_path: Path) -> None:
    _copy_first_suite(tmp_path)
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    done = guest.environment.run(tmp_path, *command.split())
    assert done.returncode in (2, 4)
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_former_name_that_another_plugin_has_is_theirs(guest: Guest, tmp_path: Path) -> None:
    """Old names of our options belong to another plugin that has an option of that name.

    pytest-selenium has ``--driver``, and pytest-html has ``--html``.
    """
    assert {"--driver", "--html-report"} <= set(FORMER)
    _run(guest, tmp_path, "spyre-cb", "init", "mine")
    typed = ("mine", "--cb-simulate", "--driver", "Remote", "--html", "theirs.html", "--cb-html", "ours.html")
    assert "1 passed" in _run(guest, tmp_path, "python", "-m", "pytest", *typed).stdout
    assert "pytest-html" in (tmp_path / "theirs.html").read_text()
    assert "pytest-html" not in (tmp_path / "ours.html").read_text()


@pytest.fixture
def with_engine(guest: Guest, tmp_path: Path) -> Environment:
    """Return an environment with the wheel in which the packages of this process can be imported, too.

    These packages include those of the extra ``engine``.
    """
    made = environment(tmp_path / "venv")
    made.install("--no-deps", str(guest.wheel))
    (packages,) = made.folder.glob("lib/python*/site-packages")
    (packages / "of-this-environment.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    return made


def test_with_the_engine_suites_pass_from_an_empty_folder(with_engine: Environment, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    paths = ("suites/scheduler_steps/joining.yaml", "suites/output/basic.yaml")
    done = with_engine.run(empty, "spyre-cb", "run", *paths, "-m", "cb and cpu", "--html", "page.html")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^=+ \d\d+ passed, \d+ deselected in ", done.stdout, re.MULTILINE)
    assert str(with_engine.folder) in done.stdout, "not those of the checkout"
    assert "<html" in (empty / "page.html").read_text()
    assert with_engine.run(empty, "spyre-cb", "init", "mine").returncode == 0
    mine = with_engine.run(empty, "spyre-cb", "run", "mine")
    assert mine.returncode == 0, mine.stdout + mine.stderr
    assert "1 passed" in mine.stdout


def test_importing_the_harness_imports_no_torch() -> None:
    """Every session with suites imports the harness and its plugin. This must not import torch, which takes long."""
    assert find_spec("torch") is not None
    code = "import sys, harness, harness.cli, harness.pytest_plugin.session; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "harness.pytest_plugin.session" in imported.stdout.split()
    assert not {"torch", "transformers", "fms", "numpy"} & set(imported.stdout.split())
