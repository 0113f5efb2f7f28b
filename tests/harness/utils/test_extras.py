"""Tests of missing packages of the extras, which are reported in one sentence.

If the driver cannot run without a package, the run is refused. Otherwise each case that needs it reports it.
"""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.drivers import openai_http
from harness.drivers.base import STRUCTURED_OUTPUTS, UnavailableError
from harness.drivers.http_client import HttpClient
from harness.drivers.optional import why_lacking
from harness.drivers.reference import ReferenceDriver
from harness.drivers.registry import DriverOptions, make_driver
from harness.suites.schema import ServerOptions
from harness.types import EngineSetup, SchedulingLimits
from harness.utils import extras
from harness.utils.extras import ENGINE, EXTRAS, HTTP_CLIENT, SERVER, why_missing
from tests.helpers.pytest_runs import run, write

ROOT = Path(__file__).resolve().parents[3]
QUICKER = {"numba"}
"""Packages of an extra that can be done without."""
HIDDEN = """\
from harness.utils import extras

found = extras.find_spec
extras.find_spec = lambda name: None if name in {hidden!r} else found(name)
"""
HTTP_AND_NOT = """\
suite: mine
kind: behaviour
parameters: {entry_point: [in-process, http]}
cases:
  - id: six-tokens
    actions:
      - complete: {prompt: {random_tokens: 5}, max_tokens: 6}
        expect: {token_counts: [6]}
"""

Hide = Callable[..., None]


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Hide:
    """Return a function after whose call only the modules with the given names are missing."""

    def hidden(*names: str) -> None:
        monkeypatch.setattr(extras, "find_spec", lambda name: None if name in names else object())

    return hidden


def test_the_packages_are_those_of_the_extras() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        names = {re.split(r"[\[<>=;~ ]", each)[0] for each in declared[extra]} - QUICKER - {"spyre-cb"}
        assert names == set(packages)
    assert "spyre-cb[http]" in declared["server"]


@pytest.mark.parametrize(
    ("hidden", "says"),
    [
        ((), None),
        (("fms",), "ibm-fms is not installed here: pip install 'spyre-cb[engine]'"),
        (("torch", "fms"), "torch and ibm-fms are not installed here: pip install 'spyre-cb[engine]'"),
        (
            ("fms", "uvicorn", "openai"),
            "ibm-fms, uvicorn and openai are not installed here: pip install 'spyre-cb[engine,server,http]'",
        ),
    ],
)
def test_what_is_missing_is_one_sentence(hidden: tuple[str, ...], says: str | None, hide: Hide) -> None:
    hide(*hidden)
    assert why_missing(ENGINE, SERVER, HTTP_CLIENT) == says


def test_the_engine_is_refused_without_its_packages(hide: Hide) -> None:
    hide("transformers")
    with pytest.raises(UnavailableError, match=r"^transformers is not installed here: pip install 'spyre-cb\[engine"):
        ReferenceDriver()


@pytest.mark.parametrize("hidden", ["fms", "uvicorn", "openai"])
def test_a_server_is_refused_before_the_run(hidden: str, hide: Hide) -> None:
    hide(hidden)
    with pytest.raises(UnavailableError, match=r"^--cb-serve reference: [\w-]+ is not installed here: pip install"):
        make_driver("openai-http", DriverOptions(serve="reference"))


def test_servers_of_vllm_are_refused_before_the_run(hide: Hide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_http, "find_plugin", lambda: None)
    with pytest.raises(UnavailableError, match=r"^--cb-serve vllm: none of vllm-spyre, .* pip install vllm-spyre=="):
        make_driver("openai-http", DriverOptions(serve="vllm"))
    monkeypatch.setattr(openai_http, "find_plugin", object)
    hide("httpx")
    with pytest.raises(UnavailableError, match=r"^--cb-serve vllm: httpx is not installed .*'spyre-cb\[http\]'$"):
        make_driver("openai-http", DriverOptions(serve="vllm"))


def test_clients_are_refused_without_their_packages(hide: Hide) -> None:
    hide("openai")
    with pytest.raises(UnavailableError, match=r"^openai is not installed here: pip install 'spyre-cb\[http\]'$"):
        HttpClient("http://127.0.0.1:1", "tiny-granite")
    with pytest.raises(UnavailableError, match=r"^openai is not installed here"):
        make_driver("openai-http", DriverOptions(server_url="http://127.0.0.1:1"))


def test_cases_over_http_are_skipped_where_only_the_engine_is_installed(tmp_path: Path) -> None:
    """With ``pip install spyre-cb[engine]`` only, cases over HTTP are skipped, and all other cases run."""
    (tmp_path / "conftest.py").write_text(HIDDEN.format(hidden={"fastapi", "httpx"}))
    write(tmp_path, mine=HTTP_AND_NOT)
    done = run(tmp_path, "mine.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert (
        "skipped 1 test: fastapi and httpx are not installed here: pip install 'spyre-cb[server,http]'" in done.stdout
    )


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("mine.yaml", "ERROR: --cb-driver reference: torch is not installed here: pip install 'spyre-cb[engine]'"),
        ("compose.yaml", "ERROR: compose.yaml:1:1: this file is not a suite: the keys"),
    ],
)
def test_a_file_that_is_no_suite_is_reported_first(named: str, says: str, tmp_path: Path) -> None:
    """If a named file is not a suite, only that is reported, and not that the engine's packages are missing."""
    (tmp_path / "conftest.py").write_text(HIDDEN.format(hidden={"torch"}))
    write(tmp_path, mine=HTTP_AND_NOT, compose="services: {}\n")
    done = run(tmp_path, named)
    assert done.returncode == 4
    assert done.stderr.startswith(says)
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_server_that_can_be_started_is_fit() -> None:
    setup = EngineSetup("tiny-granite", "eager", 1, 512, 4)
    assert ReferenceDriver().unfit(setup, SchedulingLimits(), ServerOptions()) is None


def test_a_capability_that_needs_an_extra_says_how_to_install_it(hide: Hide) -> None:
    driver = ReferenceDriver()
    assert why_lacking(driver, "abc") == "the case needs abc, which the driver reference does not offer"
    hide("llguidance")
    message = "llguidance is not installed here: pip install 'spyre-cb[structured]'"
    assert why_lacking(driver, STRUCTURED_OUTPUTS) == message
