"""Tests that reference servers are forked from the preloaded process, or spawned if that process has ended."""

import sys
from pathlib import Path

import pytest

from harness.drivers.servers import SERVER, Launched
from harness.pytest_plugin.isolation import launching
from tests.helpers.paths import ROOT
from tests.helpers.pytest_runs import run

DOORS = str(ROOT / "suites" / "behaviour" / "doors.yaml")
NO_SPAWN = """\
from harness.drivers import servers
from harness.pytest_plugin.isolation import launching
def refuse(command, *rest):
    raise RuntimeError("a server is spawned")
launching.spawn_server = servers.spawn_server = servers._launch = refuse
"""


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        (("--cb-isolation=engine",), "1 passed"),
        (("--forked",), "1 passed"),
        (("--cb-isolation=engine", "--cb-start-processes=spawn"), "1 failed"),
    ],
)
def test_a_server_is_forked_where_engines_are(arguments: tuple[str, ...], outcome: str, tmp_path: Path) -> None:
    (tmp_path / "nospawn.py").write_text(NO_SPAWN, encoding="utf-8")
    test = f"{DOORS}::a-stream-adds-up-to-the-whole-answer[tiny-granite-eager-http]"
    done = run(tmp_path, "-p", "nospawn", *arguments, test, PYTHONPATH=str(tmp_path))
    assert outcome in done.stdout, done.stdout + done.stderr


def test_a_server_is_spawned_where_the_preloaded_process_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: list[tuple[object, ...]] = []

    def spawn(*arguments: object) -> Launched:
        spawned.append(arguments)
        return None  # type: ignore[return-value]

    monkeypatch.setattr(launching, "spawn_server", spawn)
    command = [*SERVER, "--port", "0"]
    launching.fork_server(tmp_path, None)(command, {"A": "b"}, sys.stdout.fileno(), sys.stderr.fileno())
    assert spawned == [(command, {"A": "b"}, sys.stdout.fileno(), sys.stderr.fileno())]
