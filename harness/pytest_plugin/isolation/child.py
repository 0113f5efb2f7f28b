"""The child, a process that runs cases: ``python -m harness.pytest_plugin.isolation.child CONNECTION STACKS PARENT``.

The child runs a pytest session whose run loop receives the ids of the tests to run, instead of iterating over the
collected items. ``CONNECTION`` is the file descriptor of a connection to the collecting process. ``STACKS`` is the file
descriptor to which the child writes the stacks of all threads when it gets SIGUSR1. When the process with the id
``PARENT`` ends, the child is killed.
"""

import faulthandler
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import pytest
from _pytest.config import Config  # as in pytest's API, with fromdictargs, by which xdist starts its workers too
from _pytest.runner import runtestprotocol  # pytest's public API has no way to run an item and get its reports.

from harness.drivers.base import Driver
from harness.drivers.optional import preload
from harness.pytest_plugin.isolation.forks import run_in_a_fork
from harness.pytest_plugin.isolation.messages import SERVING, Start, Word
from harness.pytest_plugin.items import CaseItem
from harness.pytest_plugin.settings import settings_key
from harness.utils import spent
from harness.utils.subprocesses import end_with_parent


class Serving:
    """A pytest plugin in a child, the process that runs cases: replaces pytest's loop over all tests.

    The new loop receives the ids of tests from the collecting process, runs the tests, and returns their reports.
    """

    def __init__(self, connection: Connection, start: Start) -> None:
        self._connection = connection
        self._start = start

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        settings = session.config.stash[settings_key]
        settings.engines.driver = _Announcing(settings.driver, self._say)
        if self._start.forks:
            preload(settings.driver)
        self._say({"word": "ready"})
        while (name := self._received()) is not None:
            if name not in items:
                self._say({"word": "missing"})
            elif self._start.forks:
                self._run_in_a_fork(items[name])
            else:
                self._say({"word": "running", "pid": os.getpid()})
                self._say({"word": "reports", "reports": self._run(items[name])})
        return True

    def _received(self) -> str | None:
        try:
            return self._connection.recv_bytes().decode() or None
        except (EOFError, OSError):
            return None

    def _say(self, word: Word) -> None:
        self._connection.send_bytes(json.dumps(word).encode())

    def _run_in_a_fork(self, item: pytest.Item) -> None:
        if isinstance(item, CaseItem):
            item.warm_up()

        def reports() -> bytes:
            return json.dumps(self._run(item)).encode()

        def began(pid: int) -> None:
            spent.take()  # Discard the times measured so far, which the fork has inherited and will report.
            self._say({"word": "running", "pid": pid})

        returned, returncode = run_in_a_fork(reports, began)
        reports_of_it = json.loads(returned) if returncode == 0 and returned else []
        if isinstance(item, CaseItem):
            item.cool_down(well=bool(reports_of_it) and all(r["outcome"] != "failed" for r in reports_of_it))
        if reports_of_it:
            self._say({"word": "reports", "reports": reports_of_it})
        else:
            self._say({"word": "died", "returncode": returncode})

    def _run(self, item: pytest.Item) -> list[dict[str, Any]]:
        announce: Callable[[], None] = getattr(item, "announce", lambda: None)
        announce()
        # The next item is not known. It does not matter, because cases have no fixtures, and engines stay open.
        reports = runtestprotocol(item, log=False, nextitem=None)
        hook = item.config.hook
        return [hook.pytest_report_to_serializable(config=item.config, report=report) for report in reports]

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        with self._captured(item, "setup"):
            yield

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        with self._captured(item, "call"):
            yield

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        with self._captured(item, "teardown"):
            yield

    @contextmanager
    def _captured(self, item: pytest.Item, when: str) -> Generator[None, None, None]:
        """Attach the output of a test's setup, call or teardown to the report, as pytest does.

        stdout and stderr of the child are files, so that the output is not lost if the child crashes.
        """
        if self._start.shown:
            yield
            return
        began = [os.fstat(fd).st_size for fd in (1, 2)]
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for fd, name, offset in zip((1, 2), ("stdout", "stderr"), began, strict=True):
                text = os.pread(fd, os.fstat(fd).st_size - offset, offset).decode(errors="replace")
                if text:
                    item.add_report_section(when, name, text)


class _Announcing:
    """A wrapper of a driver that sends a message before and after the driver starts an engine.

    The process that collected the tests needs the messages, because the timeout of a case does not include the start of
    an engine.
    """

    def __init__(self, driver: Driver, say: Callable[[Word], None]) -> None:
        self._driver = driver
        self._say = say

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._driver, name)
        return self._announced(value) if name in ("open", "serve", "share") else value

    def _announced(self, start: Callable[..., Any]) -> Callable[..., Any]:
        def announced(*arguments: Any) -> Any:
            self._say({"word": "opening"})
            try:
                return start(*arguments)
            finally:
                self._say({"word": "opened"})

        return announced


def session_of(start: Start, plugin: object) -> int:
    """Run a pytest session with the options of ``start`` and the run loop of ``plugin``, and return its exit status."""
    sys.path[:] = start.sys_path
    options = dict(start.options)
    plugins = [part for name in options.pop("plugins") for part in ("-p", name)]
    config = Config.fromdictargs(options, [*plugins, *start.files])
    config.pluginmanager.register(plugin, SERVING)
    return int(config.hook.pytest_cmdline_main(config=config) or 0)


def answer_with_stacks(file: int) -> None:
    """Register a signal handler that writes the stacks of all threads to the file descriptor ``file`` at SIGUSR1."""
    faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)


def write_unbuffered() -> None:
    """Disable the buffering of stdout and stderr, because buffered text would be lost in a crash."""
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(write_through=True)


def main() -> None:
    connection, stacks, parent = Connection(int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
    end_with_parent(parent)
    answer_with_stacks(stacks)
    write_unbuffered()
    start: Start = connection.recv()
    sys.exit(session_of(start, Serving(connection, start)))


if __name__ == "__main__":
    main()
