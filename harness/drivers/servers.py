"""Start servers, each as a process of its own on a free port. They end with the harness in any case."""

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
"""Timeout for loading a model and, on a card, compiling it, in seconds."""
END_SECONDS = 60
CLOSE_SECONDS = 5
"""Timeout for a server to end after SIGTERM, in seconds, before it gets SIGKILL."""
ADMIN_TOKEN = "SPYRE_CB_ADMIN_TOKEN"
"""Variable with the token for the administrative call of the reference engine's server.

Without it the call is disabled.
"""
SERVER = (sys.executable, "-m", "engine.entrypoints.server")
"""The command of the reference engine's server, without arguments."""
LEFT_OUT = ("SPYRE_CB_API_KEY", ADMIN_TOKEN, "VLLM_DT_MAX_BATCH_TKV_LIMIT", "CI")


class StubbornServerError(Exception):
    """A server does not end after SIGTERM. The message is one sentence."""


class Launched(Protocol):
    """A process with the interface of ``subprocess.Popen``.

    It is the leader of a process group, and ends with this process at the latest.
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
"""Starts a process for a command, with this environment, and these file descriptors for stdout and stderr."""


def spawn_server(command: Sequence[str], environ: Mapping[str, str], stdout: int, stderr: int) -> Launched:
    """Start a new process, which imports its modules itself."""
    return start_with_parent(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, process_group=0
    )


_launch: LaunchServer = spawn_server
"""The function that starts servers of the reference engine in this process."""


def launch_servers_with(launch: LaunchServer) -> None:
    """Set the function that starts servers of the reference engine, in this process and its forks."""
    global _launch
    _launch = launch


class ServerProcess:
    """A server that is ready: it has printed ``ready: URL``, or answers at the given ``url``.

    It is the leader of a process group, so processes that it started end with it, also after SIGKILL. Raises
    UnavailableError with its last output if it does not start.
    """

    def __init__(
        self, command: Sequence[str], url: str | None, environ: Mapping[str, str], launch: LaunchServer = spawn_server
    ) -> None:
        self._command, self._fixed_url, self._environ = list(command), url, dict(environ)
        self._launch = launch
        self.url = ""
        self._start()

    def _start(self) -> None:
        self._output = TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115 - lives as long as the process
        reading, writing = os.pipe()
        self._printed = open(reading, "rb", buffering=0)  # noqa: SIM115 - as above
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
        """Return the URL in the server's first line of output.

        Reads without blocking on a server that hangs, and without a thread, because this process may fork.
        """
        line = b""
        give_up = time.monotonic() + START_SECONDS
        while not line.endswith(b"\n"):
            if not select.select([self._printed], [], [], max(0.0, give_up - time.monotonic()))[0]:
                raise UnavailableError(f"the server printed nothing for {START_SECONDS} s")
            read = self._printed.read(1)  # only this line: later output is not for the harness
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
        raise UnavailableError(f"{url} did not answer for {START_SECONDS} s")

    def _last_words(self) -> str:
        self.process.wait(END_SECONDS)
        self._output.seek(0)
        lines = [line.strip() for line in self._output.read().splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"exit status {self.process.returncode}, without output"

    def restart(self, how: str) -> None:
        """End the server, with SIGKILL (``kill``) or SIGTERM (``stop``), and start it again.

        Raises StubbornServerError if it does not end after SIGTERM; it is started again in this case, too.
        """
        self.process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGTERM)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.end()
            self._start()
            raise StubbornServerError(f"the server did not end within {END_SECONDS} s of SIGTERM") from None
        self._release()
        self._start()

    def end(self) -> None:
        """End the server, with SIGKILL if SIGTERM has no effect. Idempotent."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(END_SECONDS)
        self._release()

    def _release(self) -> None:
        """End the rest of the process group, once: its id may be reused later."""
        if self._output.closed:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._printed.close()
        self._output.close()


def reference_server(setup: EngineSetup, limits: SchedulingLimits, options: ServerOptions) -> ServerProcess:
    """Start the reference engine's server with these limits. Raises UnavailableError."""
    flags = {
        **{f"--{name.replace('_', '-')}": value for name, value in flags_of(setup, limits).items()},
        "--max-queue": options.max_queue,
        "--api-key": options.api_key,
        "--max-body-bytes": options.max_body_bytes,
        "--drain-seconds": options.drain_seconds,
    }
    return _start_reference(setup, flags, {})


def robust_reference_server(setup: EngineSetup) -> tuple[ServerProcess, str]:
    """Start the reference engine's server with the whole shape of ``setup``.

    Returns the server and the token of its administrative call. Raises UnavailableError.
    """
    token = secrets.token_urlsafe(32)
    flags = {
        "--max-model-len": setup.max_model_len,
        "--max-num-seqs": setup.max_num_seqs,
        "--num-blocks": setup.num_blocks,
    }
    return _start_reference(setup, flags, {ADMIN_TOKEN: token}), token


def flags_of(setup: EngineSetup, limits: SchedulingLimits) -> dict[str, int | None]:
    """Return limits by the names of the server's settings."""
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
    """Return the scheduler's options as flags of the same names."""
    options = {} if setup.options is None else asdict(setup.options)
    return {f"--{name.replace('_', '-')}": _flag_value(value) for name, value in options.items()}


def _flag_value(value: object) -> object:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def with_padding_block(available: int, max_num_seqs: int | None) -> int:
    """Return the number of all blocks, including the padding block.

    The engine rounds the number down to a multiple of the batch.
    """
    batch = max_num_seqs or 1
    return ceil_div(available + 1, batch) * batch


def environ_of_a_server() -> dict[str, str]:
    """Return this process's environment, without variables that would change a server unnoticed."""
    return {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
