"""Check suites beyond their schema: markers exist, and inside suites/ names and requirements are right."""

from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from harness.cases.behaviour.named import CHECKS, find
from harness.suites.discovery import SUITE_SUFFIXES
from harness.suites.loader import LoadedSuite, Problem, SuiteError
from harness.suites.markers import MARKERS, closest
from harness.suites.yaml import YamlPath, read_yaml

REQUIREMENTS = "requirements.yaml"


def lint_suite(loaded: LoadedSuite, more_markers: Collection[str]) -> None:
    """Raise SuiteError with all errors. ``more_markers`` are the markers registered with pytest."""
    problems = [
        *_alone_by_its_name(loaded),
        *_markers(loaded, {*MARKERS, *more_markers}),
        *_checks(loaded),
        *_requirements_and_name(loaded),
    ]
    if problems:
        raise SuiteError(problems)


def _alone_by_its_name(loaded: LoadedSuite) -> Iterator[Problem]:
    """Check that no other suite has the same name apart from its suffix: both would share expectations."""
    for suffix in SUITE_SUFFIXES:
        other = loaded.path.with_suffix(suffix)
        if other != loaded.path and other.is_file():
            what = f"{other.name} is in the same folder, and both would share one folder of expectations"
            yield loaded.problem((), what, "rename one of them")


def _markers(loaded: LoadedSuite, known: Collection[str]) -> Iterator[Problem]:
    suite = loaded.suite
    named: list[tuple[YamlPath, str]] = [(("markers", i), name) for i, name in enumerate(suite.markers)]
    for index, case in enumerate(suite.cases):
        named += [(("cases", index, "markers", i), name) for i, name in enumerate(case.markers)]
    for path, name in named:
        if name not in known:
            there_are = ", ".join(sorted(MARKERS))
            hint = f"{closest(name, known)}there are {there_are}; others can be registered in pytest's configuration"
            yield loaded.problem(path, f"marker {name!r} is not known", hint)


def _checks(loaded: LoadedSuite) -> Iterator[Problem]:
    """Check that named checks exist."""
    for index, case in enumerate(loaded.suite.cases):
        for number, action in enumerate(getattr(case, "actions", ())):
            if action.check is None or find(action.check.name) is not None:
                continue
            hint = f"{closest(action.check.name, CHECKS)}there are {', '.join(CHECKS)}; or package.module:function"
            path = ("cases", index, "actions", number, "check")
            yield loaded.problem(path, f"there is no check {action.check.name!r}", hint)


def _requirements_and_name(loaded: LoadedSuite) -> Iterator[Problem]:
    """Check a suite below a folder with a requirements.yaml: its name is its path, and its requirements exist."""
    path = loaded.path.resolve()
    folder = _requirements_root(path)
    if folder is None:
        return
    name = path.relative_to(folder).with_suffix("").as_posix()
    if loaded.suite.suite != name:
        hint = f"here a suite is named by its path: {name}"
        yield loaded.problem(("suite",), f"is {loaded.suite.suite!r}", hint)
    known = _requirements(folder / REQUIREMENTS)
    for index, case in enumerate(loaded.suite.cases):
        for i, requirement in enumerate(case.requirement):
            if requirement not in known:
                hint = f"{closest(requirement, known)}{folder.name}/{REQUIREMENTS} lists them"
                yield loaded.problem(("cases", index, "requirement", i), f"{requirement} does not exist", hint)


def _requirements_root(path: Path) -> Path | None:
    """Return the folder above a suite that has a requirements.yaml."""
    return next((parent for parent in path.parents if (parent / REQUIREMENTS).is_file()), None)


def requirements_above(suite: Path) -> Mapping[str, Mapping[str, str]]:
    """Return the requirements for suites in this folder, by id: ``must``, ``source``, optionally ``by``; or none."""
    folder = _requirements_root(suite.resolve())
    return {} if folder is None else _requirements(folder / REQUIREMENTS)


@lru_cache(maxsize=8)
def _requirements(path: Path) -> Mapping[str, Mapping[str, str]]:
    found: Mapping[str, Mapping[str, str]] = read_yaml(path).data["requirements"]
    return found
