"""Tests of the Dockerfile: the files that it copies exist and are not ignored, and its versions are the tested ones."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

from harness.suites.discovery import suite_files
from tests.helpers.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IGNORED = [
    line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"
]


def instructions(name: str) -> list[list[str]]:
    """Return the arguments of each instruction of the Dockerfile with this name, such as COPY, as a list of words."""
    lines = re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)
    return [shlex.split(line) for line in lines]


def sources() -> list[str]:
    """Return the paths that the Dockerfile copies from the build context."""
    return [word for words in instructions("COPY") if not words[0].startswith("--from") for word in words[:-1]]


def is_ignored(path: str) -> bool:
    """Return whether .dockerignore excludes a path from the build context.

    The last pattern that matches the path, or a folder that contains it, decides.
    """
    ignored = False
    folders = [str(each) for each in [Path(path), *Path(path).parents][:-1]]
    for pattern in IGNORED:
        names = folders + [Path(folder).name for folder in folders] if pattern.startswith("**/") else folders
        if any(fnmatch(name, pattern.removeprefix("!").removeprefix("**/")) for name in names):
            ignored = not pattern.startswith("!")
    return ignored


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    for source in sources():
        assert (ROOT / source).exists(), source
        assert not is_ignored(source), source
    assert {pattern[1:] for pattern in IGNORED if pattern.startswith("!")} == set(sources())


def test_nothing_else_reaches_the_build() -> None:
    for name in ("tests", ".git", "docs", ".venv", "reports", "harness/__pycache__", "harness/cli/__pycache__/a.pyc"):
        assert is_ignored(name), name


def test_the_packages_of_the_project_are_copied() -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name.removesuffix("*") for name in about["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= set(sources())
    extras = re.search(r"\.whl\)\[([a-z,]+)\]", DOCKERFILE)
    assert extras is not None
    assert set(extras[1].split(",")) <= about["project"]["optional-dependencies"].keys()


def test_versions_are_pinned() -> None:
    stages = {words[0] for words in instructions("FROM")}
    assert stages == {"docker.io/library/python:3.11-slim", "${BASE}"}
    assert instructions("ARG")[0] == ["BASE=cpu"]
    assert {words[2] for words in instructions("FROM") if len(words) > 1} == {"wheel", "cpu"}
    install = next(line for line in DOCKERFILE.splitlines() if "pip install" in line)
    assert "-c /wheels/constraints.txt" in install
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all("==" in line for line in constraints if line and line[0] != "#")


def test_the_image_runs_as_a_user_that_is_not_root_and_is_a_number() -> None:
    """Kubernetes can check ``runAsNonRoot`` only if the user of the image is a number."""
    user = instructions("USER")[-1][0]
    assert user.isdecimal()
    assert user != "0"
    fs_group = (ROOT / "deploy" / "kubernetes" / "components" / "fs-group" / "kustomization.yaml").read_text()
    assert f"value: {user}}}" in fs_group


def test_the_wheel_of_what_is_copied_has_all_suites(tmp_path: Path) -> None:
    """Build the wheel from only the files that the Dockerfile copies, as its first stage does."""
    for source in sources():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, tmp_path)
    [wheel] = [words for words in instructions("RUN") if "wheel" in words]
    command = [word.replace("/wheels", str(tmp_path / "wheels")) for word in wheel[1:]]
    # The environment has what is needed for the build: nothing is downloaded.
    done = subprocess.run(
        [sys.executable, *command, "--no-build-isolation"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = (tmp_path / "wheels").glob("spyre_cb-*.whl")
    names = zipfile.ZipFile(built).namelist()
    suites = [file.relative_to(ROOT).as_posix() for file in suite_files([ROOT / "suites"])]
    assert {f"spyre_cb/{name}" for name in suites} <= set(names)
    assert not any(name.startswith(("tests/", "deploy/")) for name in names)
