"""Tests of the lookup of drivers by name: drivers of this project, and drivers that other packages register."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.drivers.base import UnavailableError
from harness.drivers.openai_http import STARTERS
from harness.drivers.registry import BUILT_IN, GROUP, DriverOptions, driver_names, make_driver
from tests.helpers.paths import ROOT

MODULE = '''\
"""A driver of a package of its own, with what every driver must have and nothing else."""

from harness.drivers.reference import SimulationDriver


class MyDriver:
    name = "my-engine"
    capabilities = SimulationDriver.capabilities

    def __init__(self, options):
        self.options = options

    def describe(self):
        return f"my engine, simulate {self.options.simulate}"

    def unavailable(self, setup):
        return None if setup.backend == "eager" else "my engine is eager"

    def open(self, setup):
        return SimulationDriver().open(setup)


class Nameless:
    capabilities = frozenset()

    def __init__(self, options):
        pass


def broken(options):
    raise RuntimeError("no such device")
'''
SUITE = """\
suite: mine
kind: scheduler_steps
parameters: {backend: [eager, sendnn]}
cases:
  - id: three-tokens
    requests: [{prompt: {random_tokens: 49}, max_tokens: 3}]
    expect:
      steps:
        - [0, 0, [0], [], [], [], 0, 0]
        - [1, 64, [], [0], [0], [], 2, 1]
        - [2, 65, [], [0], [0], [], 2, 2]
        - [3, 66, [], [], [0], [0], 2, 2]
        - [4, 0, [], [], [], [], 0, 0]
"""


def install(folder: Path, package: str = "my-package", **drivers: str) -> Path:
    """Write a distribution that registers drivers as entry points, and return its folder for ``sys.path``.

    ``drivers`` has the place of each driver's class by the name of the driver, such as ``my_driver:MyDriver``.
    """
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    lines = "".join(f"{name.replace('_', '-')} = {where}\n" for name, where in drivers.items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}", encoding="utf-8")
    (folder / "my_driver.py").write_text(MODULE, encoding="utf-8")
    return folder


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(install(tmp_path / "site", my_engine="my_driver:MyDriver", odd="my_driver:Nameless"))
    return tmp_path


def test_the_project_has_its_own_drivers() -> None:
    assert driver_names() == tuple(BUILT_IN)
    assert driver_names(stepped=True) == ("reference", "vllm")
    assert make_driver("reference").name == "reference"
    for name in ("reference", "simulation", "openai-http"):
        assert make_driver(name, DriverOptions(simulate=True)).name == "simulation"
    assert set(STARTERS) == {"reference", "vllm"}


def test_a_package_registers_another(installed: Path) -> None:
    assert driver_names() == (*BUILT_IN, "my-engine", "odd")
    assert make_driver("my-engine", DriverOptions(simulate=True)).describe() == "my engine, simulate True"


@pytest.mark.parametrize(
    ("drivers", "name", "message"),
    [
        (
            {"a": "my_driver:Nameless"},
            "a",
            "my_driver:Nameless of my-package returns a driver without the attributes name, describe",
        ),
        (
            {"a": "my_driver:MyDriver"},
            "a",
            "my_driver:MyDriver of my-package returns a driver whose name is 'my-engine'",
        ),
        ({"a": "my_driver:broken"}, "a", "cannot be loaded: RuntimeError: no such device"),
        ({"a": "nowhere:make"}, "a", "nowhere:make of my-package cannot be loaded: ModuleNotFoundError"),
        (
            {"alpha": "my_driver:broken"},
            "alpa",
            "no driver has the name 'alpa'; did you mean alpha? the drivers are reference",
        ),
    ],
)
def test_what_is_wrong_with_a_driver_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drivers: dict[str, str], name: str, message: str
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path, **drivers))
    with pytest.raises(UnavailableError) as caught:
        make_driver(name)
    assert message in str(caught.value)


def test_two_packages_cannot_have_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("first", "second"):
        monkeypatch.syspath_prepend(install(tmp_path / package, package, same="my_driver:MyDriver"))
    with pytest.raises(UnavailableError, match="more than one package registers the driver "):
        make_driver("same")


def pytest_with(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (installed / "mine.yaml").write_text(SUITE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-rs", "mine.yaml"]
    environ = {"PYTHONPATH": f"{ROOT}:{installed / 'site'}", "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    done = [*command, *arguments]
    return subprocess.run(done, cwd=installed, env=environ, capture_output=True, text=True, check=False, timeout=120)


def test_cases_run_on_it(installed: Path) -> None:
    done = pytest_with(installed, "--cb-driver", "my-engine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert "my engine is eager" in done.stdout


def test_the_option_knows_all_names(installed: Path) -> None:
    done = pytest_with(installed, "--cb-driver", "my-engin")
    assert done.returncode == 4
    assert "my-engine" in done.stderr


def test_a_command_steps_it(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (installed / "w.json").write_text('[{"requests": [{"prompt_len": 49, "max_tokens": 2}]}]', encoding="utf-8")
    assert main(["trace", str(installed / "w.json"), "--driver", "my-engine"]) == 0
    assert '"steps": [[0, 0, [0]' in capsys.readouterr().out


@pytest.mark.parametrize("command", [["search"], ["trace", __file__]])
def test_a_command_says_which_drivers_it_knows(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--driver", "openai-http"]) == 2
    assert "the drivers are reference, vllm" in capsys.readouterr().err
