"""Start a child process that runs cases, either as a new process or as a fork of the preloaded process."""

import os
import signal
import site
import socket
import subprocess
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.drivers.servers import SERVER, Launched, LaunchServer, spawn_server
from harness.forking.messages import Request
from harness.forking.process import ForkedProcess, ForkRefusedError, ServerGoneError
from harness.pytest_plugin.isolation.messages import Serve, Start

ROOT = Path(__file__).resolve().parents[3]
CHILD = "harness.pytest_plugin.isolation.child"
PARENT = "harness.pytest_plugin.isolation.preloaded"
Environ = Mapping[str, str | None]
"""Changes to the environment variables of this process for a new process. The value None removes a variable."""
ALONE: Environ = {"OPENBLAS_NUM_THREADS": "1"}
"""Environment variables for processes that will be forked.

By default, OpenBLAS starts threads when numpy is imported, and a process with several threads can't be forked.
"""


@dataclass(frozen=True)
class Files:
    """The file descriptors that a child gets: ``connection`` for messages, ``stacks`` for the stacks of its threads.

    If ``stdout`` and ``stderr`` are None, the child inherits stdout and stderr of this process.
    """

    connection: int
    stacks: int
    stdout: int | None = None
    stderr: int | None = None


Launch = Callable[[Start, Files], Launched]
"""A function that starts a child."""


class ParentGoneError(Exception):
    """The preloaded process, which is forked for each child, has ended. ``stderr`` is what it wrote to stderr."""

    def __init__(self, what: str, stderr: str) -> None:
        super().__init__(what)
        self.stderr = stderr


def spawn(environ: Environ) -> Launch:
    """Return a function that starts a child as a new process, with the changes ``environ`` to the environment."""

    def launch(_: Start, files: Files) -> Launched:
        fds = [files.connection, files.stacks]
        return subprocess.Popen(
            [sys.executable, "-m", CHILD, *map(str, fds), str(os.getpid())],
            env=_environ(environ),
            stdin=subprocess.DEVNULL,
            stdout=files.stdout,
            stderr=files.stderr,
            pass_fds=fds,
            # In a session of its own the child does not get SIGINT at Ctrl-C, which pytest in this process handles. Its
            # process group can be killed with all processes that a hung engine has started.
            start_new_session=True,
        )

    return launch


def fork(parent: Path, environ: Environ, branch: Hashable) -> Launch:
    """Return a function that starts a child as a fork of the preloaded process.

    ``parent`` is the folder with the socket of the preloaded process. ``environ`` has changes to the environment of the
    child. ``branch`` is the key of the branch to fork: a fork of the preloaded process that has already started an
    engine (see ``harness.forking.messages.Request``). With ``branch`` None, the preloaded process itself is forked. The
    returned function raises ParentGoneError if the preloaded process has ended, and ForkRefusedError if it refuses to
    fork.
    """

    def launch(start: Start, files: Files) -> Launched:
        output = [fd for fd in (files.stdout, files.stderr) if fd is not None]
        request = Request(start, _environ(environ), CHILD, bool(output), branch)
        try:
            return ForkedProcess(_socket(parent), request, [*output, files.connection, files.stacks])
        except ServerGoneError:
            stderr = parent / "stderr"
            text = stderr.read_text(encoding="utf-8", errors="replace") if stderr.is_file() else ""
            raise ParentGoneError("the preloaded process, from which engines are forked, has ended", text) from None

    return launch


def fork_server(parent: Path, branch: Hashable) -> LaunchServer:
    """Return a function that starts a server of the reference engine as a fork of the preloaded process.

    ``parent`` is the folder with the socket of the preloaded process. ``branch`` is the key of the branch to fork, as
    in ``fork``; with None, the preloaded process itself is forked. If the preloaded process has ended or refuses to
    fork, the returned function starts the server as a new process instead.
    """

    def launch(command: Sequence[str], environ: Mapping[str, str], stdout: int, stderr: int) -> Launched:
        work = Serve(tuple(command[len(SERVER) :]))
        request = Request(work, environ, "engine.entrypoints.server", own_output=True, branch=branch)
        try:
            return ForkedProcess(_socket(parent), request, [stdout, stderr])
        except (ServerGoneError, ForkRefusedError):
            return spawn_server(command, environ, stdout, stderr)

    return launch


class PreloadedParent:
    """The preloaded process, from which children are forked. The constructor starts it.

    The preloaded process ends with ``close``, or when this process ends. Its socket is in ``folder``.
    """

    def __init__(self, driver: str, attention: str | None, *, shown: bool) -> None:
        self._folder = TemporaryDirectory(prefix="spyre-cb-")
        self.folder = Path(self._folder.name)
        with socket.socket(socket.AF_UNIX) as listener, (self.folder / "stderr").open("wb") as stderr:
            listener.bind(str(_socket(self.folder)))
            listener.listen()
            self._process = subprocess.Popen(
                [sys.executable, "-m", PARENT, str(listener.fileno()), str(os.getpid()), driver, attention or ""],
                env=_environ(ALONE),
                stdin=subprocess.DEVNULL,
                stdout=None if shown else stderr,
                stderr=None if shown else stderr,
                pass_fds=[listener.fileno()],
                start_new_session=True,  # For the same reasons as in ``spawn``.
            )

    def close(self) -> None:
        """Kill the preloaded process, and with it its forks. Can be called more than once."""
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def _socket(folder: Path) -> Path:
    return folder / "socket"


def how_it_ended(returncode: int) -> str:
    """Return how a process ended, such as ``died of signal 11 (SIGSEGV)`` or ``ended with exit status 3``."""
    if returncode >= 0:
        return f"ended with exit status {returncode}"
    name = signal.Signals(-returncode).name if -returncode in set(signal.Signals) else "unknown"
    return f"died of signal {-returncode} ({name})"


def _environ(more: Environ) -> dict[str, str]:
    whole = {**os.environ, "PYTHONPATH": _python_path(), **more}
    return {name: value for name, value in whole.items() if value is not None}


def _python_path() -> str:
    """Return PYTHONPATH for a new process, with the folder of this package first unless it is in site-packages."""
    # In PYTHONPATH, site-packages would come before Python's standard library, and its packages could hide modules.
    own = None if str(ROOT) in site.getsitepackages() else str(ROOT)
    return os.pathsep.join(filter(None, [own, os.environ.get("PYTHONPATH")]))
