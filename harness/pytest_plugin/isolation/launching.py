"""Start a process that runs cases, either as a new process or as a fork of a preloaded one."""

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
"""Changes to this process's environment. None removes a variable."""
ALONE: Environ = {"OPENBLAS_NUM_THREADS": "1"}
"""OpenBLAS starts threads when numpy is imported, and a process with threads can't be forked."""


@dataclass(frozen=True)
class Files:
    """File descriptors of a process that runs cases. Without ``stdout`` and ``stderr`` it writes to the terminal."""

    connection: int
    stacks: int
    stdout: int | None = None
    stderr: int | None = None


Launch = Callable[[Start, Files], Launched]


class ParentGoneError(Exception):
    """The process to be forked has ended. The message says how; ``stderr`` is its output before."""

    def __init__(self, what: str, stderr: str) -> None:
        super().__init__(what)
        self.stderr = stderr


def spawn(environ: Environ) -> Launch:
    """Return a launcher that starts a new process, which imports its modules itself."""

    def launch(_: Start, files: Files) -> Launched:
        fds = [files.connection, files.stacks]
        return subprocess.Popen(
            [sys.executable, "-m", CHILD, *map(str, fds), str(os.getpid())],
            env=_environ(environ),
            stdin=subprocess.DEVNULL,
            stdout=files.stdout,
            stderr=files.stderr,
            pass_fds=fds,
            start_new_session=True,  # pytest handles Ctrl-C; and children of a hung engine are killed with their group
        )

    return launch


def fork(parent: Path, environ: Environ, branch: Hashable) -> Launch:
    """Return a launcher that forks the process that listens in the folder ``parent``.

    ``branch`` as in ``harness.forking``. The launcher raises ParentGoneError if there is no such process, and
    ForkRefusedError.

    The launcher raises ParentGoneError if there is no such process, and ForkRefusedError.
    """

    def launch(start: Start, files: Files) -> Launched:
        output = [fd for fd in (files.stdout, files.stderr) if fd is not None]
        request = Request(start, _environ(environ), CHILD, bool(output), branch)
        try:
            return ForkedProcess(_socket(parent), request, [*output, files.connection, files.stacks])
        except ServerGoneError:
            stderr = parent / "stderr"
            text = stderr.read_text(encoding="utf-8", errors="replace") if stderr.is_file() else ""
            raise ParentGoneError("the process that engines are forked from has ended", text) from None

    return launch


def fork_server(parent: Path, branch: Hashable) -> LaunchServer:
    """Return a launcher that forks the reference engine's servers from the process that listens in ``parent``.

    If that process has ended, or refuses to fork, servers are spawned.
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
    """The process from which others are forked, started by the constructor.

    Ends with ``close``, or with this process.
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
                start_new_session=True,  # see above
            )

    def close(self) -> None:
        """Kill the process: it has nothing to clean up, and its forks end with it. Idempotent."""
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def _socket(folder: Path) -> Path:
    return folder / "socket"


def how_it_ended(returncode: int) -> str:
    """Return a description: ``died of signal 11 (SIGSEGV)`` or ``ended with exit status 3``."""
    if returncode >= 0:
        return f"ended with exit status {returncode}"
    name = signal.Signals(-returncode).name if -returncode in set(signal.Signals) else "unknown"
    return f"died of signal {-returncode} ({name})"


def _environ(more: Environ) -> dict[str, str]:
    whole = {**os.environ, "PYTHONPATH": _python_path(), **more}
    return {name: value for name, value in whole.items() if value is not None}


def _python_path() -> str:
    """Return the import path with this package first."""
    # Not where packages are installed: Python looks there anyway, and first it looks at its own library.
    own = None if str(ROOT) in site.getsitepackages() else str(ROOT)
    return os.pathsep.join(filter(None, [own, os.environ.get("PYTHONPATH")]))
