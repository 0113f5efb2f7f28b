"""Observe a run of foreign_project.py: its output and files, without times, random names and memory addresses."""

import re
import shutil
from pathlib import Path
from typing import Any

from tests.spyre_cb.foreign_project import write_project
from tests.spyre_cb.installed import Environment

RUNS = {
    "plain": ".",
    "-n 2": "-n 2 .",
    "--forked": "--forked",
    "an error in collection": "tests charts broken/cannot_be_collected.py",
}
"""By name: the arguments of pytest. Most name folders that have YAML files of others; --forked names none."""
VOLATILE = (
    (re.compile(r"\b\d+\.\d+s( \(\d:\d\d:\d\d\))?"), "TIME"),
    (re.compile(r"0x[0-9a-f]{6,}"), "ADDRESS"),
    (re.compile(r"\[gw\d\]"), "[gw]"),
    (re.compile(r"\[ *\d+%\]"), "[%]"),
    (re.compile(r"={3,}|-{3,}|_{3,}"), "==="),  # as long as the time next to it leaves room
)
VOLATILE_IN_ALLURE = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r'"(start|stop)": ?\d+'), r'"\1": 0'),
    (re.compile(r"\b\d+-MainThread"), "THREAD"),
    *VOLATILE,
)


def observed(there: Environment, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run the tests of a new copy of the project in foreign_project.py. Return what the run prints and writes.

    The keys are ``status`` (exit status), ``stdout``, ``stderr``, ``allure`` (Allure results) and ``files`` (all
    others).
    """
    project = folder / "project"
    shutil.rmtree(project, ignore_errors=True)
    write_project(project)
    done = there.run(project, "python", "-m", "pytest", *arguments, PYTHONDONTWRITEBYTECODE="1", PYTHONHASHSEED="0")
    files = sorted(path for path in project.rglob("*") if path.is_file())
    results = [path for path in files if path.parent.name == "allure-results"]
    others = [path for path in files if path not in results]
    return {
        "status": done.returncode,
        "stdout": _stable(done.stdout, VOLATILE),
        "stderr": _stable(done.stderr, VOLATILE),
        "allure": sorted(_stable(f"{path.name}: {path.read_text()}", VOLATILE_IN_ALLURE) for path in results),
        "files": {str(path.relative_to(project)): _content(path) for path in others},
    }


def _stable(text: str, volatile: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for pattern, name in volatile:
        text = pattern.sub(name, text)
    return text


def _content(file: Path) -> str:
    binary = file.name.startswith(".coverage") or file.suffix == ".pyc"
    return "" if binary else file.read_text(encoding="utf-8")
