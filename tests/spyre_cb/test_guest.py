"""Tests that an unrelated project behaves the same with and without this package installed, byte for byte.

The tests of that project are run in one new environment with a team's usual plugins, before and after the wheel of this
package is installed.
"""

import re

import pytest

from tests.spyre_cb.conftest import Guest
from tests.spyre_cb.observing import RUNS

NAME = "spyre-cb"
LISTED = (
    re.compile(r", spyre-cb-[\w.]+|spyre-cb-[\w.]+, "),
    re.compile(r", 'spyre-cb': '[\w.]+'|'spyre-cb': '[\w.]+', "),
)
"""Where pytest and pytest-metadata list every installed plugin."""
IN_ANY_ORDER = ("-n 2",)
OF_FIXTURES = "-container.json: "


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> str:
    """Return the name of a run, which is its pytest arguments or a short description."""
    name: str = request.param
    return name


def test_output_is_the_same(run: str, guest: Guest) -> None:
    before, after = (_lines(run, each[run]["stdout"]) for each in (guest.before, guest.after))
    assert NAME not in "".join(before)
    assert NAME not in "".join(after)
    assert after == before
    assert guest.after[run]["stderr"] == guest.before[run]["stderr"]


def test_exit_status_is_the_same(run: str, guest: Guest) -> None:
    assert guest.after[run]["status"] == guest.before[run]["status"] != 0


def test_allure_results_are_the_same(run: str, guest: Guest) -> None:
    before, after = (_results(run, each[run]["allure"]) for each in (guest.before, guest.after))
    assert after == before


def test_files_are_the_same(run: str, guest: Guest) -> None:
    assert guest.after[run]["files"] == guest.before[run]["files"]


def test_the_project_does_what_it_should(guest: Guest) -> None:
    """The unrelated project must have results of every kind; otherwise the other tests would compare nothing."""
    assert "4 failed, 6 passed, 1 skipped, 1 xfailed, 1 error in TIME" in guest.before["plain"]["stdout"]
    assert "test_awaited PASSED" in guest.before["plain"]["stdout"]
    assert "1 snapshot failed. 1 snapshot passed." in guest.before["plain"]["stdout"]
    assert "Interrupted: 1 error during collection" in guest.before["an error in collection"]["stdout"]
    for run in ("plain", "-n 2", "--forked"):
        assert len([text for text in guest.before[run]["allure"] if "-result.json: " in text]) == 13
        assert ".pytest_cache/v/cache/lastfailed" in guest.before[run]["files"]


def test_the_plugin_is_loaded(guest: Guest) -> None:
    """With the wheel installed, pytest lists this package's plugin. Nothing else in the output shows the plugin."""
    assert all(NAME not in each["stdout"] for each in guest.before.values())
    assert all(each["stdout"].count(NAME) == 2 for each in guest.after.values())


def _lines(run: str, output: str) -> list[str]:
    """Return the lines of an output, without the name of this package in lists of plugins. Such lists are sorted."""
    for listed in LISTED:
        output = listed.sub("", output, count=1)
    lines = [_sorted(line) for line in output.splitlines()]
    return sorted(lines) if run in IN_ANY_ORDER else lines


def _results(run: str, texts: list[str]) -> list[str]:
    """Return Allure's files in a fixed order.

    With several workers, the files about fixtures are removed. The faster worker runs more tests, and every worker
    starts the fixtures of its own tests, so the number and contents of these files differ from run to run.
    """
    return sorted(text for text in texts if OF_FIXTURES not in text) if run in IN_ANY_ORDER else texts


def _sorted(line: str) -> str:
    return ", ".join(sorted(line.split(", "))) if line.startswith(("plugins: ", "metadata: ")) else line
