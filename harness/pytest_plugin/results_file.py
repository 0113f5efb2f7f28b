"""The file of ``--cb-results``: a line of JSON at a time, and a disk that is full ends the file, not the run."""

import json
import math
import os
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any


class ResultsFile:
    """A file of results that is written to. After an error nothing more is written: ``problem`` says why.

    Its last line says which tests are running, and the next line takes its place: if the process is killed, it is left.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        self._file: IO[bytes] | None = None
        self._end = 0
        self._can_go_back = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb", buffering=0)
            self._can_go_back = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        except OSError as error:
            self._give_up(error)

    def write(self, line: Mapping[str, Any]) -> None:
        """Write a line."""
        self._put(f"{as_line(line)}\n")
        if self._file is not None and self._can_go_back:
            self._end = self._file.tell()

    def show_running(self, tests: Collection[str]) -> None:
        """Replace the line about running tests, which is none without them."""
        if self._can_go_back:
            self._put(f"{as_line({'running': list(tests)})}\n" if tests else "")

    def _put(self, text: str) -> None:
        """Write text where the line about running tests begins."""
        if self._file is None:
            return
        try:
            if self._can_go_back:
                self._file.seek(self._end)
                self._file.truncate()
            left = text.encode()
            while left:  # the disk may take a part of it
                left = left[self._file.write(left) :]
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._give_up(error)
            self._file = None

    def _give_up(self, error: OSError) -> None:
        self.problem = f"{self.path}: cannot be written: {error.strerror or error}; results are missing in it"
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


def as_line(record: Mapping[str, Any]) -> str:
    """Return a record as JSON that every reader accepts: without NaN, infinity and halves of characters."""
    try:
        text = json.dumps(record, allow_nan=False)
        if "\\ud" in text:
            json.dumps(record, ensure_ascii=False).encode()
    except ValueError:
        return json.dumps(_clean(record), allow_nan=False)
    return text


def _clean(value: Any) -> Any:
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {_clean(key): _clean(each) for key, each in value.items()}
        case list() | tuple():
            return [_clean(each) for each in value]
    return value
