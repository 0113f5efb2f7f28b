"""Record the engines that did not start, so that none of the processes of a run tries to start them again.

A start can take ten minutes. If an engine does not start, for example because of a compile error, it does not start for
other cases with the same setup either. The processes of a run share the records in a folder.
"""

import json
import os
import shutil
import tempfile
import traceback
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from checkpoints import CheckpointError
from harness.drivers.base import UnavailableError

DID_NOT_START = "the engine did not start"
FOLDER = "SPYRE_CB_START_FAILURES"
"""Name of an environment variable. Its value is the folder in which the processes of a run record failed starts."""


class EngineStartError(RuntimeError):
    """An engine did not start. The message is one sentence with the engine's reason.

    ``lines`` is the traceback. It is empty if another test of the run has already shown the traceback.
    """

    def __init__(self, message: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.lines = lines


@dataclass(frozen=True)
class StartFailures:
    """The engines that did not start in this run.

    ``known`` has (message, lines of the traceback) for each failed start that this process knows of, by a hash of the
    engine's setup. ``folder`` is the folder in which all processes of the run record failed starts, None if the run has
    only one process.
    """

    folder: Path | None
    known: dict[str, tuple[str, tuple[str, ...]]]

    def raise_known(self, setup: Hashable) -> None:
        """Raise EngineStartError if the start of an engine with this setup has failed in any process of the run."""
        key = _key(setup)
        found = self.known.get(key) or self._read(key)
        if found is not None:
            self.known[key] = found
            message, lines = found
            raise EngineStartError(message, lines if self._first_to_show(key) else ())

    def remember(self, setup: Hashable, error: BaseException) -> EngineStartError:
        """Record that an engine with this setup did not start because of ``error``. Return an exception to raise."""
        key, message = _key(setup), sentence_of(error)
        lines = tuple("".join(traceback.format_exception(error)).rstrip().splitlines())
        self.known[key] = message, lines
        if self.folder is not None:
            with suppress(OSError):  # The run has ended and its folder is removed, so only this process records it.
                unfinished = self.folder / f"{key}.{os.getpid()}"
                unfinished.write_text(json.dumps([message, lines]), encoding="utf-8")
                unfinished.replace(self.folder / f"{key}.json")
        return EngineStartError(message)

    def shown(self, setup: Hashable) -> tuple[str, ...]:
        """Return the traceback of the failed start of an engine with this setup, as lines.

        Only the first call for a setup in all processes of the run returns the lines, so that reports show them once.
        Later calls return an empty tuple.
        """
        key = _key(setup)
        return self.known[key][1] if key in self.known and self._first_to_show(key) else ()

    def _read(self, key: str) -> tuple[str, tuple[str, ...]] | None:
        if self.folder is None:
            return None
        try:
            message, lines = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
        except OSError:
            return None
        return message, tuple(lines)

    def _first_to_show(self, key: str) -> bool:
        """Return whether no process of the run has called this method with this ``key`` before."""
        shown = f"{key}.shown"
        if shown in self.known:
            return False
        self.known[shown] = "", ()
        if self.folder is None:
            return True
        try:
            (self.folder / shown).touch(exist_ok=False)
        except OSError:
            return False
        return True


def sentence_of(error: BaseException) -> str:
    """Return a line that says why an engine did not start. ``error`` is the exception that its start raised."""
    message = " ".join(str(error).split())
    if isinstance(error, UnavailableError):
        return message
    reason = message if isinstance(error, ValueError) and message else f"{type(error).__name__}: {message}".rstrip(": ")
    return reason if reason.startswith(DID_NOT_START) else f"{DID_NOT_START}: {reason}"


def is_a_mistake(error: Exception) -> bool:
    """Return whether ``error`` says that an engine's setup is invalid or can't run on this machine.

    Such an error is raised before the engine is started, and finding it takes no time, so it is not recorded as a
    failed start. An error whose message begins with DID_NOT_START was raised during the start, so the result is False.
    """
    known = isinstance(error, UnavailableError | CheckpointError | ValueError)
    return known and not str(error).startswith(DID_NOT_START)


def share_start_failures() -> Path:
    """Create the folder in which all processes of this run record failed starts of engines. Return its path.

    The path is passed to processes that this process starts later, in an environment variable.
    """
    folder = Path(tempfile.mkdtemp(prefix="spyre-cb-starts-"))
    os.environ[FOLDER] = str(folder)
    return folder


def shared_start_failures() -> Path | None:
    """Return the folder in which the processes of this run record failed starts, None if the run has none."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else None


def unshare_start_failures(folder: Path) -> None:
    """Remove the folder in which the processes of this run have recorded failed starts of engines."""
    if os.environ.get(FOLDER) == str(folder):
        del os.environ[FOLDER]
    shutil.rmtree(folder, ignore_errors=True)


def _key(setup: Hashable) -> str:
    return sha256(repr(setup).encode()).hexdigest()[:32]
