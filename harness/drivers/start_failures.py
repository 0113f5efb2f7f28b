"""Engines that could not be started, remembered for a whole run: each is tried once, in whichever process.

A start may take ten minutes, and what keeps it from working (a card that is taken, a cache that does not fit, a compile
error) keeps it from working for every case of that setup. The processes of a run share a folder.
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
"""The environment variable with the folder that the processes of a run share."""


class EngineStartError(RuntimeError):
    """An engine that did not start; the message is one sentence with its own reason.

    ``lines`` are the traceback where nobody has shown it yet, else none.
    """

    def __init__(self, message: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.lines = lines


@dataclass(frozen=True)
class StartFailures:
    """What could not be started, by setup. ``folder`` None: this process alone remembers, in ``known``."""

    folder: Path | None
    known: dict[str, tuple[str, tuple[str, ...]]]

    def raise_known(self, setup: Hashable) -> None:
        """Raise EngineStartError where ``setup`` did not start before, here or in another process of the run."""
        key = _key(setup)
        found = self.known.get(key) or self._read(key)
        if found is not None:
            self.known[key] = found
            message, lines = found
            raise EngineStartError(message, lines if self._first_to_show(key) else ())

    def remember(self, setup: Hashable, error: BaseException) -> EngineStartError:
        """Note that ``setup`` did not start, and return what to raise."""
        key, message = _key(setup), sentence_of(error)
        lines = tuple("".join(traceback.format_exception(error)).rstrip().splitlines())
        self.known[key] = message, lines
        if self.folder is not None:
            with suppress(OSError):  # the folder went with the process that made it: remembered here alone
                unfinished = self.folder / f"{key}.{os.getpid()}"
                unfinished.write_text(json.dumps([message, lines]), encoding="utf-8")
                unfinished.replace(self.folder / f"{key}.json")
        return EngineStartError(message)

    def shown(self, setup: Hashable) -> tuple[str, ...]:
        """The traceback of a setup that did not start, once in a run; empty from then on."""
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
        """Whether no process of the run has asked for this traceback before."""
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
    """Return why an engine did not start, in one line: its own reason, with the kind of error where it says little."""
    said = " ".join(str(error).split())
    if isinstance(error, UnavailableError):
        return said
    reason = said if isinstance(error, ValueError) and said else f"{type(error).__name__}: {said}".rstrip(": ")
    return reason if reason.startswith(DID_NOT_START) else f"{DID_NOT_START}: {reason}"


def is_a_mistake(error: Exception) -> bool:
    """Whether it says that the setup is wrong or can't work here, which takes no start to find out."""
    known = isinstance(error, UnavailableError | CheckpointError | ValueError)
    return known and not str(error).startswith(DID_NOT_START)


def share_start_failures() -> Path:
    """Make the folder for the processes that this process starts. A run within a test of another run has its own."""
    folder = Path(tempfile.mkdtemp(prefix="spyre-cb-starts-"))
    os.environ[FOLDER] = str(folder)
    return folder


def shared_start_failures() -> Path | None:
    """Return the folder of the run that this process belongs to."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else None


def unshare_start_failures(folder: Path) -> None:
    """Remove a folder that ``share_start_failures`` made."""
    if os.environ.get(FOLDER) == str(folder):
        del os.environ[FOLDER]
    shutil.rmtree(folder, ignore_errors=True)


def _key(setup: Hashable) -> str:
    return sha256(repr(setup).encode()).hexdigest()[:32]
