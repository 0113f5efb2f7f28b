"""Tests of the checks of a suite file that its schema can't make."""

from pathlib import Path

import pytest

from harness.cases.lint import lint_suite
from harness.suites.expand import Configuration
from harness.suites.loader import SuiteError, load_suite
from harness.suites.markers import SET_BY

SUITE = """\
suite: mine
kind: {kind}
cases:
  - id: one
    {case}
"""


async def a_check(context: object) -> str:
    """Return the sentence of a check that passes."""
    return f"it passes with {context}"


class _Check:
    async def __call__(self, context: object) -> str:
        return await a_check(context)


an_object_that_is_a_check = _Check()


def problems(folder: Path, case: str, kind: str = "output") -> list[str]:
    """Return the lines that ``lint_suite`` reports for a suite with one case, without the name of the file."""
    path = folder / "mine.yaml"
    path.write_text(SUITE.format(kind=kind, case=case), encoding="utf-8")
    try:
        lint_suite(load_suite(path), ())
    except SuiteError as error:
        return [line.removeprefix(f"{path}:") for line in str(error).splitlines()]
    return []


@pytest.mark.parametrize(
    ("draws", "temperature", "found"),
    [
        (1, 1.0, True),
        (4, 1.0, True),
        (5, 1.0, False),
        (1, 0.0, False),
    ],
)
def test_draws_are_enough_for_the_check_to_fail(tmp_path: Path, draws: int, temperature: float, found: bool) -> None:
    request = f"{{prompt: {{random_tokens: 5}}, max_tokens: 2, temperature: {temperature}}}"
    case = f"{{requests: [{request}], expect: {{output: distribution, draws: {draws}}}}}"
    case = case.removeprefix("{").removesuffix("}").replace(", expect", "\n    expect")
    says = f"6:43: cases[0].expect.draws: draws {draws} are so few that any distribution of tokens would be accepted"
    assert problems(tmp_path, case) == ([f"{says} — use 5 or more, such as 50"] if found else [])


@pytest.mark.parametrize("marker", SET_BY)
def test_a_marker_that_another_key_sets_is_refused(tmp_path: Path, marker: str) -> None:
    case = f"""markers: [preemption, {marker}]
    requests: [{{prompt: {{random_tokens: 5}}, max_tokens: 2}}]
    expect: {{output: alone}}"""
    [line] = problems(tmp_path, case)
    assert line.startswith(f"5:27: cases[0].markers[1]: the marker {marker} is not set by `markers`, but by the ")
    assert " — remove it" in line


def test_markers_of_the_backend_and_the_entry_point_can_only_be_set_by_them() -> None:
    """Markers of a configuration are refused in suites, except those of schedulers."""
    every = Configuration("tiny-granite", "sendnn", 2, entry_point="http").markers
    others = Configuration("tiny-granite", "eager").markers
    assert {*every, *others} - SET_BY.keys() == {"cb"}


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ('"os:system"', "'os:system' is not a check: it is not a coroutine function (async def) — a check is a"),
        ('"os:sep"', "there is no check 'os:sep'"),
        ('"os:no_such"', "there is no check 'os:no_such'"),
        ('":f"', "there is no check ':f'"),
        ('".x:f"', "there is no check '.x:f'"),
        (
            "{name: slow-reader, options: {secnds: 2}}",
            "'slow-reader' is not a check: it can't be called with the context and the options of the case: "
            "got an unexpected keyword argument 'secnds'",
        ),
        ("{name: slow-reader, options: {seconds: 2}}", ""),
        ('"tests.harness.cases.test_lint:a_check"', ""),
        ('"tests.harness.cases.test_lint:an_object_that_is_a_check"', ""),
    ],
)
def test_a_named_check_is_a_coroutine_function_that_takes_the_options(tmp_path: Path, check: str, says: str) -> None:
    found = problems(tmp_path, f"actions: [{{check: {check}}}]", "behaviour")
    if not says:
        assert found == []
        return
    [line] = found
    assert f"cases[0].actions[0].check: {says}" in line
