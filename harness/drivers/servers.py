"""Start servers, each in a separate process and on a free port. All servers end when the harness ends."""

import os
import re
import secrets
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from tempfile import TemporaryFile
from typing import Any, Protocol

from harness.drivers.base import UnavailableError
from harness.suites.schema import ServerOptions
from harness.suites.schema.schedulers import FORMATS
from harness.types import EngineSetup, SchedulingLimits, ceil_div
from harness.utils.subprocesses import start_with_parent

START_SECONDS = 600
"""Timeout for the start of a server, in seconds. The server loads a model and, on a card, compiles it."""
END_SECONDS = 60
"""How long to wait for the process of a server to end, in seconds, after a case has ended it or SIGKILL was sent."""
CLOSE_SECONDS = 5
"""How long a server that is no longer needed may take to end after SIGTERM, in seconds, before it is killed."""
ADMIN_TOKEN = "SPYRE_CB_ADMIN_TOKEN"
"""Environment variable of the reference engine's server: the token that ``POST /admin/limits`` requires.

If the variable is not set, the server refuses this call.
"""
SERVER = (sys.executable, "-m", "engine.entrypoints.server")
"""The command of the reference engine's server, without arguments."""
LEFT_OUT = ("SPYRE_CB_API_KEY", ADMIN_TOKEN, "VLLM_DT_MAX_BATCH_TKV_LIMIT", "CI")


class StubbornServerError(Exception):
    """A server did not end within ``END_SECONDS`` after SIGTERM."""


class Launched(Protocol):
    """A started process. The attributes and methods are those of ``subprocess.Popen`` with the same names.

    The started process leads a process group of its own, and is killed when the process that started it ends.
    """

    pid: int

    @property
    def returncode(self) -> int | Any: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


LaunchServer = Callable[[Sequence[str], Mapping[str, str], int, int], Launched]
"""Type of a function that starts a process, given a command, an environment, and descriptors for stdout and stderr."""


def spawn_server(command: Sequence[str], environ: Mapping[str, str], stdout: int, stderr: int) -> Launched:
    """Start a command as a new process, not as a fork. ``stdout`` and ``stderr`` are file descriptors."""
    return start_with_parent(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, process_group=0
    )


_launch: LaunchServer = spawn_server
"""The function with which this process starts servers of the reference engine."""


def launch_servers_with(launch: LaunchServer) -> None:
    """Make this process and its forks call ``launch`` to start the process of a server of the reference engine."""
    global _launch
    _launch = launch


class ServerProcess:
    """The process of a server. The constructor starts the server and waits until it is ready.

    If ``url`` is None, the server is ready when it has printed ``ready: URL``. Otherwise it is ready when it answers at
    ``url``. The server has its own process group, so that processes that it has started can be ended with it. The
    constructor raises UnavailableError, with the last line of the server's output, if the server does not start.
    """

    def __init__(
        self, command: Sequence[str], url: str | None, environ: Mapping[str, str], launch: LaunchServer = spawn_server
    ) -> None:
        self._command, self._fixed_url, self._environ = list(command), url, dict(environ)
        self._launch = launch
        self.url = ""
        self._start()

    def _start(self) -> None:
        self._output = TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115 - closed when the process has ended
        reading, writing = os.pipe()
        self._printed = open(reading, "rb", buffering=0)  # noqa: SIM115 - closed when the process has ended
        output = self._output.fileno()
        try:
            self.process = self._launch(
                self._command, self._environ, writing if self._fixed_url is None else output, output
            )
        finally:
            os.close(writing)
        try:
            self.url = self._announced() if self._fixed_url is None else self._answering(self._fixed_url)
        except BaseException:
            self.end()
            raise

    def _announced(self) -> str:
        """Wait until the server prints ``ready: URL`` as its first line, and return the URL.

        The wait uses no thread, because this process may be forked later. Raises UnavailableError if the first line is
        another one, or is not printed within ``START_SECONDS``.
        """
        line = b""
        give_up = time.monotonic() + START_SECONDS
        while not line.endswith(b"\n"):
            if not select.select([self._printed], [], [], max(0.0, give_up - time.monotonic()))[0]:
                raise UnavailableError(f"the server has not printed its URL within {START_SECONDS} s")
            read = self._printed.read(1)  # One byte at a time, so that nothing after the first line is read.
            if not read:
                break
            line += read
        ready = re.fullmatch(r"ready: (\S+)\n", line.decode(errors="replace"))
        if ready is None:
            raise UnavailableError(f"the server did not start: {self._last_words()}")
        return ready[1]

    def _answering(self, url: str) -> str:
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            if self.process.poll() is not None:
                raise UnavailableError(f"the server did not start: {self._last_words()}")
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5):
                    return url
            except OSError:
                time.sleep(0.5)
        raise UnavailableError(f"the server did not answer at {url} within {START_SECONDS} s")

    def _last_words(self) -> str:
        self.process.wait(END_SECONDS)
        self._output.seek(0)
        lines = [line.strip() for line in self._output.read().splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"exit status {self.process.returncode}, without output"

    def restart(self, how: str) -> None:
        """End the server, and start it again. ``how`` is ``kill`` (with SIGKILL) or ``stop`` (with SIGTERM).

        If the server does not end after SIGTERM, it is killed and started again, and StubbornServerError is raised.
        """
        self.process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGTERM)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.end()
            self._start()
            raise StubbornServerError(f"the server did not end within {END_SECONDS} s after SIGTERM") from None
        self._release()
        self._start()

    def end(self) -> None:
        """End the server with SIGTERM. If it has not ended after ``CLOSE_SECONDS``, kill it.

        Can be called more than once.
        """
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(END_SECONDS)
        self._release()

    def _release(self) -> None:
        """Kill the other processes of the server's process group, and close the server's output.

        Only the first call has an effect: later, another process group may have the same id, and must not be killed.
        """
        if self._output.closed:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._printed.close()
        self._output.close()


def reference_server(setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions) -> ServerProcess:
    """Start the reference engine's server with these limits and options.

    Raises UnavailableError if the server does not start.
    """
    flags = {
        **{f"--{name.replace('_', '-')}": value for name, value in flags_of(setup, limits).items()},
        "--max-queue": options.max_queue,
        "--api-key": options.api_key,
        "--max-body-bytes": options.max_body_bytes,
        "--drain-seconds": options.drain_seconds,
    }
    return _start_reference(setup, flags, {})


def robust_reference_server(setup: EngineSetup) -> tuple[ServerProcess, str]:
    """Start a server of the reference engine whose limits can be changed, so that several tests can use it.

    The server starts with the limits of ``setup``, which are the largest that it can have. Return (server, token):
    ``POST /admin/limits`` with the token changes the limits. Raises UnavailableError if the server does not start.
    """
    token = secrets.token_urlsafe(32)
    flags = {
        "--max-model-len": setup.max_model_len,
        "--max-num-seqs": setup.max_num_seqs,
        "--num-blocks": setup.num_blocks,
    }
    return _start_reference(setup, flags, {ADMIN_TOKEN: token}), token


def flags_of(setup: EngineSetup, limits: SchedulingLimits) -> dict[str, int | None]:
    """Convert limits to settings of the reference engine's server, and return their values by name.

    The server has these names in ``POST /admin/limits`` and, with dashes, as command-line options. They are the names
    of the limits, except that ``available_blocks`` becomes ``num_blocks``, which also counts the padding block. A limit
    that is None stays None.
    """
    blocks = limits.available_blocks
    batch = limits.max_num_seqs if FORMATS[setup.scheduler].rounds_blocks else 1
    return {
        "max_model_len": limits.max_model_len,
        "max_num_seqs": limits.max_num_seqs,
        "num_blocks": None if blocks is None else with_padding_block(blocks, batch),
        "max_batch_tkv_limit": limits.max_batch_tkv_limit,
    }


def _start_reference(setup: EngineSetup, flags: Mapping[str, object], environ: Mapping[str, str]) -> ServerProcess:
    engine = {
        "--model": setup.model,
        "--backend": setup.backend,
        "--scheduler": setup.scheduler,
        "--tensor-parallel-size": setup.tensor_parallel_size,
        **_scheduler_flags(setup),
    }
    given = [str(part) for flag, value in {**engine, **flags}.items() if value is not None for part in (flag, value)]
    command = [*SERVER, "--port", "0", *given]
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return ServerProcess(command, None, {**environ_of_a_server(), **threads, **environ}, _launch)


def _scheduler_flags(setup: EngineSetup) -> dict[str, object]:
    """Convert the scheduler options of a setup to the server's command-line options with the same names.

    Return the value of each option by its name, such as ``--chunk-size``.
    """
    options = {} if setup.options is None else asdict(setup.options)
    return {f"--{name.replace('_', '-')}": _flag_value(value) for name, value in options.items()}


def _flag_value(value: object) -> object:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def with_padding_block(available: int, max_num_seqs: int | None) -> int:
    """Return the number of blocks with which to start an engine, so that requests can use ``available`` blocks or more.

    An engine rounds its number of blocks down to a multiple of ``max_num_seqs``, and uses one of them for padding.
    """
    batch = max_num_seqs or 1
    return ceil_div(available + 1, batch) * batch


def environ_of_a_server() -> dict[str, str]:
    """Return the environment for a server: that of this process, without variables that would change its settings."""
    return {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
