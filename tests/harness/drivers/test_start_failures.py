"""Tests of engines that cannot start: a run tries once, and every case in every process reports the reason."""

import re
from pathlib import Path

import pytest

from harness.drivers.reference import SimulationDriver
from harness.drivers.start_failures import EngineStartError, StartFailures, sentence_of
from harness.trace import read_items, trace_items
from harness.types import EngineSetup
from tests.helpers.paths import SUITES
from tests.helpers.pytest_runs import GOOD, simulated

BROKEN = """\
import os
from pathlib import Path
from harness.drivers.reference import SimulationDriver
def broken(self, setup):
    with (Path(__file__).parent / "tried").open("a") as tried:
        tried.write("x")
    raise RuntimeError("card 0000:1e:00.0 is taken by process 4242")
SimulationDriver.open = broken
"""
SENTENCE = "the engine did not start: RuntimeError: card 0000:1e:00.0 is taken by process 4242"
MODES = {
    "plain": [],
    "forked": ["--forked"],
    "xdist": ["-n1"],
    "both": ["--forked", "-n1"],
    "engine": ["--cb-isolation=engine"],
}


@pytest.mark.parametrize("mode", MODES)
def test_it_is_tried_once_and_every_case_says_why(tmp_path: Path, mode: str) -> None:
    (tmp_path / "conftest.py").write_text(BROKEN)
    for name in ("one", "two", "three"):
        text = GOOD.replace("suite: mine", f"suite: {name}").replace("five-lines", name)
        (tmp_path / f"{name}.yaml").write_text(text)
    done = simulated(tmp_path, "one.yaml", "two.yaml", "three.yaml", *MODES[mode])
    text = done.stdout + done.stderr
    assert done.returncode == 1
    reported = re.findall(rf"^(\w+)\.yaml:5:5: \w+: {SENTENCE}$", text, re.M)
    assert reported == ["one", "two", "three"], text
    assert text.count("Traceback (most recent call last)") == 1, text
    assert (tmp_path / "tried").read_text() == "x", "each setup is started once"


def test_processes_of_a_run_share_what_did_not_start(tmp_path: Path) -> None:
    first, second = StartFailures(tmp_path, {}), StartFailures(tmp_path, {})
    first.raise_known("a setup")
    first.remember("a setup", RuntimeError("no card"))
    with pytest.raises(EngineStartError, match="the engine did not start: RuntimeError: no card") as caught:
        second.raise_known("a setup")
    assert caught.value.lines == ("RuntimeError: no card",)
    with pytest.raises(EngineStartError) as again:
        second.raise_known("a setup")
    assert again.value.lines == ()
    assert first.shown("a setup") == ()
    second.raise_known("another setup")


def test_without_a_folder_a_process_remembers_for_itself() -> None:
    alone = StartFailures(None, {})
    alone.remember("a setup", ValueError("num_blocks is too small"))
    with pytest.raises(EngineStartError, match="the engine did not start: num_blocks is too small"):
        alone.raise_known("a setup")


def test_the_reason_is_one_line() -> None:
    assert sentence_of(RuntimeError("a\n  b")) == "the engine did not start: RuntimeError: a b"
    assert sentence_of(KeyError()) == "the engine did not start: KeyError"
    assert sentence_of(ValueError("the engine did not start: no graph")) == "the engine did not start: no graph"


def test_a_trace_says_why_and_tries_once(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, tried = SimulationDriver(), []

    def broken(setup: EngineSetup) -> None:
        tried.append(setup)
        raise RuntimeError("no card")

    monkeypatch.setattr(driver, "open", broken)
    items = read_items(SUITES / "scheduler_steps/leaving.yaml", "tiny-granite")
    traced = list(trace_items(items, driver))
    assert {item["error"] for item in traced} == {"the engine did not start: RuntimeError: no card"}
    assert len(traced) > len(tried) == len({item.setup for item in items})
