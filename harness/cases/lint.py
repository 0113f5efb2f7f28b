"""Check parts of a suite file that its schema can't check.

Markers and named checks must exist, and a distribution must be drawn often enough for its check to fail. In a folder
with a requirements.yaml, such as suites/, the suite's name must be its path in that folder without the file's suffix,
and the requirements of its cases must exist.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from harness.cases.behaviour.named import CHECKS, find, why_unfit
from harness.checks.output.distribution import draws_that_can_fail
from harness.checks.output.draws import LARGE_NOISE
from harness.suites.discovery import SUITE_SUFFIXES
from harness.suites.loader import LoadedSuite, Problem, SuiteError
from harness.suites.markers import MARKERS, SET_BY, closest
from harness.suites.schema import OutputCase
from harness.suites.yaml import YamlPath, read_yaml
from harness.utils.paths import resolved

REQUIREMENTS = "requirements.yaml"


def lint_suite(loaded: LoadedSuite, more_markers: Collection[str]) -> None:
    """Check a suite, and raise SuiteError with all mistakes found.

    ``more_markers`` are the markers registered with pytest, which a suite can use in addition to those of the harness.
    """
    problems = [
        *_same_stem(loaded),
        *_markers(loaded, {*MARKERS, *more_markers}),
        *_checks(loaded),
        *_draws(loaded),
        *_requirements_and_name(loaded),
    ]
    if problems:
        raise SuiteError(problems)


def _same_stem(loaded: LoadedSuite) -> Iterator[Problem]:
    """Yield a problem if another suite in the same folder has the same file name with another suffix.

    For example, the golden step tables of a.yaml and those of a.yml would be in the same folder, ``expectations/a``.
    """
    for suffix in SUITE_SUFFIXES:
        other = loaded.path.with_suffix(suffix)
        if other != loaded.path and other.is_file():
            what = f"this suite and {other.name} in the same folder would have the same files of golden tables"
            yield loaded.problem((), what, "rename one of the two files")


def _markers(loaded: LoadedSuite, known: Collection[str]) -> Iterator[Problem]:
    suite = loaded.suite
    named: list[tuple[YamlPath, str]] = [(("markers", i), name) for i, name in enumerate(suite.markers)]
    for index, case in enumerate(suite.cases):
        named += [(("cases", index, "markers", i), name) for i, name in enumerate(case.markers)]
    for path, name in named:
        if name in SET_BY:
            what = f"the marker {name} is not set by `markers`, but by {SET_BY[name]}"
            yield loaded.problem(path, what, "remove it, so that -m selects only tests to which it applies")
        elif name not in known:
            there_are = ", ".join(sorted(MARKERS.keys() - SET_BY.keys()))
            hint = f"{closest(name, known)}the markers of the harness are {there_are}; register others with pytest"
            yield loaded.problem(path, f"marker {name!r} is not known", hint)


def _checks(loaded: LoadedSuite) -> Iterator[Problem]:
    """Yield a problem for each check that a behaviour case names, but that does not exist or can't be called."""
    for index, case in enumerate(loaded.suite.cases):
        for number, action in enumerate(getattr(case, "actions", ())):
            if action.check is None:
                continue
            path, name = ("cases", index, "actions", number, "check"), action.check.name
            function = find(name)
            if function is None:
                hint = f"{closest(name, CHECKS)}use one of {', '.join(CHECKS)}, or package.module:function"
                yield loaded.problem(path, f"there is no check {name!r}", hint)
            elif why := why_unfit(function, action.check.options):
                hint = "a check is a coroutine function (context, **options) that returns a sentence"
                yield loaded.problem(path, f"{name!r} is not a check: {why}", hint)


def _draws(loaded: LoadedSuite) -> Iterator[Problem]:
    """Yield a problem for each case whose ``draws`` are so few that every distribution of tokens would be accepted."""
    for index, case in enumerate(loaded.suite.cases):
        if not isinstance(case, OutputCase) or case.expect.draws is None:
            continue
        count = len(case.requests)
        sampled = [request.max_tokens for request in case.requests if request.temperature > 0]
        least = max((draws_that_can_fail(tokens, count, LARGE_NOISE) for tokens in sampled), default=1)
        if case.expect.draws < least:
            what = f"draws {case.expect.draws} are so few that any distribution of tokens would be accepted"
            yield loaded.problem(("cases", index, "expect", "draws"), what, f"use {least} or more, such as 50")


def _requirements_and_name(loaded: LoadedSuite) -> Iterator[Problem]:
    """Yield a problem if the suite's name is not its path, and for each requirement of a case that does not exist.

    Yield nothing if no folder above the suite has a requirements.yaml.
    """
    path = resolved(loaded.path)
    folder = _requirements_root(path)
    if folder is None:
        return
    name = path.relative_to(folder).with_suffix("").as_posix()
    if loaded.suite.suite != name:
        hint = f"in {folder.name}/ the name of a suite is its path: {name}"
        yield loaded.problem(("suite",), f"must be {name!r}, but is {loaded.suite.suite!r}", hint)
    known = _requirements(folder / REQUIREMENTS)
    for index, case in enumerate(loaded.suite.cases):
        for i, requirement in enumerate(case.requirement):
            if requirement not in known:
                hint = f"{closest(requirement, known)}{folder.name}/{REQUIREMENTS} lists them"
                what = f"the requirement {requirement} does not exist"
                yield loaded.problem(("cases", index, "requirement", i), what, hint)


def _requirements_root(path: Path) -> Path | None:
    """Return the nearest folder above the suite file that has a requirements.yaml, or None."""
    return next((parent for parent in path.parents if (parent / REQUIREMENTS).is_file()), None)


def requirements_above(suite: Path) -> Mapping[str, Mapping[str, str]]:
    """Return the requirements in the requirements.yaml nearest above a suite file, by id; {} if there is no such file.

    Each requirement is a mapping with the keys ``must`` (the requirement as a sentence) and ``source`` (the section of
    the rules that has it). A requirement that no case can test also has ``by``, which says how it is tested instead.
    """
    folder = _requirements_root(resolved(suite))
    return {} if folder is None else _requirements(folder / REQUIREMENTS)


@lru_cache(maxsize=8)
def _requirements(path: Path) -> Mapping[str, Mapping[str, str]]:
    found: Mapping[str, Mapping[str, str]] = read_yaml(path).data["requirements"]
    return found
