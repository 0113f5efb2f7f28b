"""Tests of servers that several cases share.

Each case has limits of its own. Before each case, the server must be idle and as it was started; if not, it is
replaced.
"""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from checkpoints import resolve
from engine.build import Engine
from engine.core import EngineCore
from engine.entrypoints.server.arguments import parse
from engine.entrypoints.server.run import assembled, bind
from engine.tokenizer import Tokenizer
from harness.cases.behaviour.needs import wants_a_server_alone
from harness.drivers import shared_server
from harness.drivers.base import UnavailableError
from harness.drivers.reference import SimulationDriver
from harness.drivers.server_pool import MAX_SERVERS, DirtyServerError, ServerNeed, ServerPool
from harness.drivers.servers import ADMIN_TOKEN
from harness.drivers.shared_server import SharedReferenceServer
from harness.suites.schema import BehaviourCase, ServerOptions
from harness.types import EngineSetup, SchedulingLimits
from tests.harness.mutations.registry import Mutation
from tests.harness.mutations.servers import SERVER_MUTATIONS, as_table
from tests.helpers.engine import ScriptedTokens
from tests.helpers.paths import ROOT
from tests.helpers.pytest_runs import run, write

SETUP = EngineSetup("tiny-granite", "eager", 1, 512, 4)
BUILT = SchedulingLimits(512, 4)
TIGHT = SchedulingLimits(128, 2, 5, 200)
OPTIONS = ServerOptions(max_queue=1, api_key="open sesame", max_body_bytes=5000)
TOKEN = "token"


class Slow(ScriptedTokens):
    """An executor without a model whose steps take 10 ms. Every token is the same."""

    def execute(self, plan: Any, sequences: Any) -> Any:
        time.sleep(0.01)
        return super().execute(plan, sequences)


class InAThread:
    """The server of the reference engine in a thread of this process, without a model, so that tests can patch it."""

    def __init__(self) -> None:
        settings = parse(["--port", "0"], {ADMIN_TOKEN: TOKEN})
        checkpoint = resolve(settings.engine.model)
        app, _ = assembled(Engine(checkpoint, Tokenizer(checkpoint), EngineCore(settings.engine, Slow())), settings)
        listener = bind(settings.host, settings.port)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def end(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()


@contextmanager
def server() -> Iterator[SharedReferenceServer]:
    shared = SharedReferenceServer(InAThread(), SETUP, TOKEN)  # type: ignore[arg-type]
    try:
        yield shared
    finally:
        shared.end()


def leave_in_mid_stream(url: str, key: str) -> None:
    """Start a streamed completion, and disconnect after its first chunk, as a case may do at its end."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    body = json.dumps({"prompt": [5], "max_tokens": 60, "stream": True})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    connection.request("POST", "/v1/completions", body, headers)
    reply = connection.getresponse()
    assert reply.readline().startswith(b"data: ")
    connection.close()
    reply.close()


def test_a_server_is_held_to_limits_and_is_as_new_for_the_next_case() -> None:
    with server() as shared:
        for limits, options in ((TIGHT, OPTIONS), (BUILT, ServerOptions()), (TIGHT, OPTIONS)):
            client = shared.client(limits, options)
            leave_in_mid_stream(client.url, options.api_key or "none")
        with pytest.raises(
            UnavailableError, match="the server can't have the limits of this case: max_model_len 100 is not"
        ):
            shared.client(SchedulingLimits(100, 4), ServerOptions())
        shared.client(BUILT, ServerOptions())
        shared.end()
        with pytest.raises(DirtyServerError, match="the server does not answer: ConnectionRefusedError"):
            shared.client(BUILT, ServerOptions())


def test_with_another_token_a_server_cannot_be_shared() -> None:
    with server() as shared:
        stranger = SharedReferenceServer(shared._process, SETUP, "another token")
        with pytest.raises(DirtyServerError, match="this path does not exist"):
            stranger.client(BUILT, ServerOptions())


@pytest.mark.parametrize("mutation", SERVER_MUTATIONS, ids=[mutation.name for mutation in SERVER_MUTATIONS])
def test_a_shared_server_that_is_wrong_is_noticed_before_a_case_has_it(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_server, "IDLE_SECONDS", 0.2)
    mutation.patch(monkeypatch)
    with server() as shared:
        if mutation.caught_by == "as it was":
            leave_in_mid_stream(shared.client(TIGHT, OPTIONS).url, "open sesame")
            wanted = BUILT, ServerOptions()
        else:
            wanted = TIGHT, OPTIONS
        with pytest.raises(DirtyServerError) as noticed:
            shared.client(*wanted)
        assert mutation.message in str(noticed.value)


def test_the_table_of_faulty_servers_is_up_to_date() -> None:
    page = (ROOT / "docs" / "behaviour.md").read_text(encoding="utf-8")
    assert as_table() in page, "write it into docs/behaviour.md:  python -m tests.harness.mutations.servers"


# --- which cases share -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "alone"),
    [
        ({}, False),
        ({"server": {"max_queue": 1, "api_key": "x", "max_body_bytes": 10}}, False),
        ({"server": {"drain_seconds": 1}}, True),
        ({"actions": [{"check": "slow-reader"}]}, False),
        ({"actions": [{"check": "mine:does_what_it_likes"}]}, True),
        ({"actions": [{"wait": {"idle": True}}, {"restart": "stop"}]}, True),
        ({"actions": [{"restart": "kill"}]}, True),
    ],
)
def test_a_case_has_a_server_alone_by_what_it_does(more: dict[str, object], alone: bool) -> None:
    default = {"id": "killed-and-restarted", "actions": [{"wait": {"idle": True}}]}
    assert wants_a_server_alone(BehaviourCase.model_validate(default | more)) is alone


def need(limits: SchedulingLimits = BUILT, *, setup: EngineSetup = SETUP, alone: bool = False) -> ServerNeed:
    return ServerNeed(setup, limits, ServerOptions(), alone)


def test_what_shares_a_server_runs_one_after_the_other() -> None:
    assert need(BUILT).key == need(TIGHT).key
    assert need(BUILT, alone=True).key == need(BUILT, alone=True).key
    assert len({need(BUILT).key, need(BUILT, alone=True).key, need(TIGHT, alone=True).key}) == 3


# --- the pool --------------------------------------------------------------------------------------------------


class Shared:
    """A fake shared server. It refuses clients with the reason ``dirty`` if that is not empty.

    Otherwise, a client of it is only the limits that were requested.
    """

    def __init__(self, dirty: str = "") -> None:
        self.dirty, self.ended = dirty, False

    def client(self, limits: SchedulingLimits, options: ServerOptions) -> Any:
        if limits.max_model_len == 100:
            raise UnavailableError("impossible")
        if self.dirty:
            raise DirtyServerError(self.dirty)
        return limits

    def end(self) -> None:
        self.ended = True


class Starter(SimulationDriver):
    """A driver that starts fake shared servers. Server number i is not usable for cases for the reason ``dirty[i]``."""

    def __init__(self, *dirty: str) -> None:
        self.started: list[Shared] = []
        self.dirty = list(dirty)

    def share(self, setup: EngineSetup) -> Shared:
        self.started.append(Shared(self.dirty.pop(0) if self.dirty else ""))
        return self.started[-1]

    def serve(self, *_: object) -> None:
        raise AssertionError("every case can share a server here")


def served(pool: ServerPool, driver: Starter, need: ServerNeed, case: str) -> object:
    """Return the client that the pool gives to a case. With a fake server it is the limits of the case."""
    return pool.client(driver, need, case)


def test_one_server_serves_all_that_share_it() -> None:
    pool, driver = ServerPool(), Starter()
    assert served(pool, driver, need(BUILT), "a") == BUILT
    assert served(pool, driver, need(TIGHT), "b") == TIGHT
    with pytest.raises(UnavailableError):
        pool.client(driver, need(SchedulingLimits(100)), "c")
    assert served(pool, driver, need(BUILT), "d") == BUILT
    assert len(driver.started) == 1
    assert pool.take_notes() == []
    pool.close()
    assert driver.started[0].ended


def test_a_dirty_server_is_replaced_and_the_case_before_named() -> None:
    pool, driver = ServerPool(), Starter()
    pool.client(driver, need(), "first")
    pool.client(driver, need(), "second")
    driver.started[0].dirty = "waiting 1"
    assert served(pool, driver, need(), "third") == BUILT
    assert [shared.ended for shared in driver.started] == [True, False]
    assert pool.take_notes() == ["a server was replaced, because it was not like a new one after second: waiting 1"]
    assert pool.take_notes() == []


def test_a_new_server_that_is_dirty_is_not_kept() -> None:
    pool, driver = ServerPool(), Starter("odd", "", "odd too")
    with pytest.raises(DirtyServerError, match=r"^odd$"):
        pool.client(driver, need(), "first")
    pool.client(driver, need(), "second")
    driver.started[1].dirty = "worn"
    with pytest.raises(DirtyServerError, match=r"^odd too$"):
        pool.client(driver, need(), "third")
    assert all(shared.ended for shared in driver.started)


class Alone(SimulationDriver):
    """A driver whose servers cannot change the limits that they were started with, as ``vllm serve`` cannot."""

    def __init__(self) -> None:
        self.started: list[tuple[SchedulingLimits, ServerOptions]] = []
        self.ended: list[SchedulingLimits] = []

    def share(self, setup: EngineSetup) -> None:
        return None

    def serve(self, setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions) -> Any:
        self.started.append((limits, options))
        return SimpleNamespace(limits=limits, close=lambda: self.ended.append(limits))


def test_a_server_whose_limits_stay_serves_cases_with_these_limits_alone() -> None:
    pool, driver = ServerPool(), Alone()
    limits = [BUILT, BUILT, TIGHT, TIGHT, BUILT]
    clients: list[Any] = [pool.client(driver, need(each), "a") for each in limits]
    assert [client.limits for client in clients] == limits
    assert [each for each, _ in driver.started] == [*driver.ended, BUILT] == [BUILT, TIGHT, BUILT]
    pool.client(driver, ServerNeed(SETUP, BUILT, ServerOptions(api_key="x"), alone=False), "a")
    assert len(driver.started) == 4


def test_a_case_that_may_stop_its_server_gets_a_new_one() -> None:
    pool, driver = ServerPool(), Alone()
    for case in ("a", "b"):
        pool.client(driver, need(alone=True), case)
    assert (len(driver.started), len(driver.ended)) == (2, 1)


def test_only_so_many_are_kept() -> None:
    pool, driver = ServerPool(), Starter()
    setups = [EngineSetup("m", "eager", 1, 64 * (i + 1), 4) for i in range(MAX_SERVERS + 1)]
    for setup in setups:
        pool.client(driver, need(setup=setup), "a")
    assert [shared.ended for shared in driver.started] == [True] + [False] * MAX_SERVERS


def test_a_fork_leaves_the_servers_of_its_parent_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, driver = ServerPool(), Starter()
    pool.client(driver, need(), "a")
    monkeypatch.setattr("os.getpid", lambda: -1)
    pool.discard(need())
    assert not driver.started[0].ended
    pool.client(driver, need(), "b")
    pool.close()
    assert [shared.ended for shared in driver.started] == [False, True]


# --- in a run --------------------------------------------------------------------------------------------------

SUITE = """\
suite: mine
kind: behaviour
parameters: {entry_point: [http]}
cases:
  - id: first
    limits: {max_model_len: 128}
    actions:
      - complete: {prompt: {random_tokens: 5}, max_tokens: 65}
        expect: {error: {status: 400, message_contains: "max model context length is 128"}}
      - metrics: {generated_tokens: 0}
  - id: second
    server: {api_key: open-sesame}
    actions:
      - complete: {prompt: {random_tokens: 5}, max_tokens: 65}
        expect: {token_counts: [65]}
      - metrics: {generated_tokens: 65}
  - id: third
    actions:
      - complete: {prompt: {random_tokens: 5}, max_tokens: 5}
        expect: {token_counts: [5]}
"""
DIRTY = """\
import http.client, json, os, signal
import pytest
from harness.drivers import shared_server
shared_server.IDLE_SECONDS = 0.0
kept = []
servers = []
def client(self, *wanted):
    servers.append(self._process)
    return found(self, *wanted)
found, shared_server.SharedReferenceServer.client = shared_server.SharedReferenceServer.client, client
@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item):
    server = servers[-1]
    with open("servers", "a") as file:
        print(server.process.pid, file=file)
    if item.name.startswith("first"):
        os.kill(server.process.pid, signal.SIGKILL)
    if item.name.startswith("second"):
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        body = json.dumps({"prompt": [5], "max_tokens": 400, "n": 16, "stream": True})
        headers = {"Content-Type": "application/json", "Authorization": "Bearer open-sesame"}
        connection.request("POST", "/v1/completions", body, headers)
        reply = connection.getresponse()
        reply.readline()
        kept.append((connection, reply))
"""


def test_a_server_that_is_left_dead_or_busy_is_replaced_and_reported(tmp_path: Path) -> None:
    write(tmp_path, mine=SUITE)
    (tmp_path / "conftest.py").write_text(DIRTY, encoding="utf-8")
    done = run(tmp_path, "mine.yaml", "--cb-isolation=engine", "--cb-results", "r.jsonl")
    assert "3 passed" in done.stdout, done.stdout
    test = "mine.yaml::{}[tiny-granite-eager-http]"
    replaced = "a server was replaced, because it was not like a new one after"
    dead = f"before {test.format('second')}, {replaced} {test.format('first')}: "
    busy = f"before {test.format('third')}, {replaced} {test.format('second')}: "
    assert f"warning: {dead}the server does not answer" in done.stdout
    assert f"warning: {busy}the engine is not idle: " in done.stdout
    assert done.stdout.count("a server was replaced") == 2
    records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    message = [[v["headline"] for v in r["verdicts"]] for r in records if "verdicts" in r]
    assert ["a server was replaced" in lines[-1] for lines in message] == [False, True, True]
    assert len(set((tmp_path / "servers").read_text().split())) == 3
    assert gone(tmp_path / "servers")


def test_forks_share_the_servers_of_the_process_that_forks(tmp_path: Path) -> None:
    write(tmp_path, mine=SUITE)
    (tmp_path / "conftest.py").write_text(DIRTY, encoding="utf-8")
    done = run(tmp_path, "mine.yaml", "--forked")
    assert "3 passed" in done.stdout, done.stdout
    # The remaining client ended with its fork: whether the server is idle for the third case depends on timing.
    why = "because it was not like a new one after mine.yaml::first"
    replaced = f"second[tiny-granite-eager-http], a server was replaced, {why}"
    assert replaced in done.stdout
    pids = (tmp_path / "servers").read_text().split()
    assert pids[0] != pids[1]
    assert gone(tmp_path / "servers")


STOPPING = """\
suite: mine
kind: behaviour
parameters: {entry_point: [http]}
cases:
  - {id: first, server: {drain_seconds: 1}, actions: [{wait: {idle: true}}]}
  - {id: second, server: {drain_seconds: 1}, actions: [{wait: {idle: true}}]}
"""
RECORDING = """\
from pathlib import Path
from harness.drivers.servers import ServerProcess
pids = []
def started(self):
    start(self)
    pids.append(self.process.pid)
start, ServerProcess._start = ServerProcess._start, started
def pytest_runtest_teardown():
    Path("running").open("a").write(f"{[Path('/proc', str(pid)).exists() for pid in pids]}\\n")
"""


def test_a_server_of_one_case_ends_with_the_case(tmp_path: Path) -> None:
    write(tmp_path, mine=STOPPING)
    (tmp_path / "conftest.py").write_text(RECORDING, encoding="utf-8")
    done = run(tmp_path, "mine.yaml", "--cb-isolation=none")
    assert "2 passed" in done.stdout, done.stdout
    assert (tmp_path / "running").read_text().splitlines() == ["[False]", "[False, False]"]


def gone(pids: Path) -> bool:
    return not any(Path("/proc", pid).exists() for pid in pids.read_text().split())
