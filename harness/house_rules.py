"""What is asked of a suite beyond its form: markers that exist, and inside suites/ its name and its requirements."""

from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

from harness.behaviour.named import CHECKS, find
from harness.loader import LoadedSuite, Problem, SuiteError
from harness.markers import MARKERS, closest
from harness.yaml_source import read_yaml

REQUIREMENTS = "requirements.yaml"


def check_house_rules(loaded: LoadedSuite, more_markers: Collection[str]) -> None:
    """Raise SuiteError with all that is wrong. ``more_markers`` are those registered with pytest by anybody."""
    problems = [*_markers(loaded, {*MARKERS, *more_markers}), *_checks(loaded), *_in_the_house(loaded)]
    if problems:
        raise SuiteError(problems)


def _markers(loaded: LoadedSuite, known: Collection[str]) -> Iterator[Problem]:
    suite = loaded.suite
    named = [(1, "markers", name) for name in suite.markers]
    for index, case in enumerate(suite.cases):
        named += [(loaded.line_of_case(index), f"cases[{index}].markers", name) for name in case.markers]
    for line, where, name in named:
        if name not in known:
            there_are = ", ".join(sorted(MARKERS))
            hint = f"{closest(name, known)}there are {there_are}; others can be registered in pytest's configuration"
            yield Problem(loaded.path, line, 1, where, f"marker {name!r} is not known", hint)


def _checks(loaded: LoadedSuite) -> Iterator[Problem]:
    """Named checks are there."""
    for index, case in enumerate(loaded.suite.cases):
        for number, action in enumerate(getattr(case, "actions", ())):
            if action.check is None or find(action.check.name) is not None:
                continue
            hint = f"{closest(action.check.name, CHECKS)}there are {', '.join(CHECKS)}; or package.module:function"
            place = loaded.places.place(("cases", index, "actions", number, "check"))
            where = f"cases[{index}].actions[{number}].check"
            yield Problem(
                loaded.path, place.line, place.column, where, f"there is no check {action.check.name!r}", hint
            )


def _in_the_house(loaded: LoadedSuite) -> Iterator[Problem]:
    """For a suite below a folder that has a requirements.yaml: its name is its path, its requirements exist."""
    path = loaded.path.resolve()
    folder = next((parent for parent in path.parents if (parent / REQUIREMENTS).is_file()), None)
    if folder is None:
        return
    name = path.relative_to(folder).with_suffix("").as_posix()
    if loaded.suite.suite != name:
        yield Problem(
            loaded.path, 1, 1, "suite", f"is {loaded.suite.suite!r}", f"here a suite is named by its path: {name}"
        )
    known = _requirements(folder / REQUIREMENTS)
    for index, case in enumerate(loaded.suite.cases):
        for requirement in case.requirement:
            if requirement not in known:
                hint = f"{closest(requirement, known)}{folder.name}/{REQUIREMENTS} lists them"
                where = f"cases[{index}].requirement"
                yield Problem(loaded.path, loaded.line_of_case(index), 1, where, f"{requirement} does not exist", hint)


@lru_cache(maxsize=8)
def _requirements(path: Path) -> frozenset[str]:
    return frozenset(read_yaml(path).data["requirements"])
