"""Tests that every mutation of the HTTP server makes the case fail that must detect it, on a server in this process."""

import asyncio
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, cast

import pytest
import uvicorn

from engine.build import build_engine
from engine.entrypoints.server.arguments import ADMIN_TOKEN, parse
from engine.entrypoints.server.run import assembled, bind
from harness.cases.behaviour import waiting
from harness.cases.run import run_at_client
from harness.cases.test import Test
from harness.drivers.client import HTTP
from harness.drivers.servers import ServerProcess
from harness.drivers.shared_server import SharedReferenceServer
from harness.suites.expand import expand
from harness.suites.schema import BehaviourCase
from harness.types import DEFAULT_SCHEDULER, EngineSetup, SchedulingLimits
from tests.harness.mutations.http import HTTP_MUTATIONS, as_table
from tests.harness.mutations.registry import Mutation
from tests.helpers.cases import suite_of
from tests.helpers.paths import ROOT, SUITES

TOKEN = "of-the-test"
LONGEST_WAIT = 10
"""Timeout of each wait of a case, in seconds. It is short, because a mutated server can make a case wait forever."""


def case_named(name: str) -> Test:
    """Return the test of a case over HTTP, with the default scheduler if the case has such a test."""
    return min(_tests_of(name), key=lambda test: test.expanded.setup.scheduler != DEFAULT_SCHEDULER)


def _tests_of(name: str) -> Iterator[Test]:
    for path in sorted((SUITES / "behaviour").glob("*.yaml")):
        suite = suite_of(path)
        for expanded in expand(suite, ["tiny-granite"]):
            configuration = expanded.configuration
            if (expanded.case.id, configuration.backend, configuration.entry_point) == (name, "eager", "http"):
                yield Test(path, suite.suite, expanded, frozenset({HTTP}), "pytest … --cb-bless")


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[EngineSetup], SharedReferenceServer]]:
    """Yield a function that returns the server for an engine setup. The server is started at the first call."""
    running: dict[str, SharedReferenceServer] = {}
    with ExitStack() as stack:

        def server_for(setup: EngineSetup) -> SharedReferenceServer:
            if setup.scheduler not in running:
                running[setup.scheduler] = stack.enter_context(served(setup))
            return running[setup.scheduler]

        yield server_for


@contextmanager
def served(setup: EngineSetup) -> Iterator[SharedReferenceServer]:
    """Run a server in a thread of this process, so that mutations of its classes apply to it."""
    flags = ["--max-model-len", str(setup.max_model_len), "--max-num-seqs", str(setup.max_num_seqs)]
    flags += ["--scheduler", setup.scheduler]
    settings = parse(flags, {ADMIN_TOKEN: TOKEN})
    with bind("127.0.0.1", 0) as listener, closing(build_engine(settings.engine)) as engine:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ready, holder = threading.Event(), cast(dict[str, Any], {})

        async def serve() -> None:
            app, _ = assembled(engine, settings)
            holder["server"] = running = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
            listener.listen(64)
            task = asyncio.create_task(running.serve(sockets=[listener]))
            while not running.started:
                await asyncio.sleep(0.01)
            ready.set()
            await task

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        assert ready.wait(60)
        process = cast(ServerProcess, types.SimpleNamespace(url=url))
        yield SharedReferenceServer(process, setup, TOKEN)
        holder["server"].should_exit = True
        thread.join(30)


def failures_of(name: str, servers: Callable[[EngineSetup], SharedReferenceServer]) -> list[str]:
    """Run a case on the server, and return all lines of the failed verdicts."""
    test = case_named(name)
    case, setup = test.expanded.case, test.expanded.setup
    assert isinstance(case, BehaviourCase)
    own = test.expanded.limits
    limits = SchedulingLimits(own.max_model_len or setup.max_model_len, own.max_num_seqs or setup.max_num_seqs)
    failed = [v for v in run_at_client(test, servers(setup).client(limits, case.server)) if not v.passed]
    return [line for verdict in failed for line in (verdict.headline, *verdict.details)]


@pytest.mark.parametrize("mutation", HTTP_MUTATIONS, ids=[mutation.name for mutation in HTTP_MUTATIONS])
def test_a_broken_server_is_caught_by_its_case(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch, servers: Callable[[EngineSetup], SharedReferenceServer]
) -> None:
    assert failures_of(mutation.caught_by, servers) == [], "at a server that is right"
    mutation.patch(monkeypatch)
    monkeypatch.setattr(waiting, "SECONDS", LONGEST_WAIT)
    text = "\n".join(failures_of(mutation.caught_by, servers))
    assert mutation.message in text, text or f"{mutation.caught_by} passes at a server that does this: {mutation.name}"


def test_the_table_of_http_mutations_is_true() -> None:
    page = (ROOT / "docs" / "behaviour.md").read_text(encoding="utf-8")
    assert as_table() in page, "write it into docs/behaviour.md:  python -m tests.harness.mutations.http"
