"""Write the file of ``--cb-results``, line by line. If the disk is full, the run continues but writes no more lines."""

import json
import math
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from harness.utils.files import refuse_named_pipe


class ResultsFile:
    """The results file of this run. After an error, nothing more is written, and ``problem`` says why.

    The last line lists the running tests. The next line that is written replaces it. If the process is killed, the list
    remains. ``begun`` is whether ``begin`` was called.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        self.begun = False
        self.can_go_back = not path.exists() or path.is_file()
        """Whether the content of the file can be replaced. In a pipe, it can't."""
        self._file: IO[bytes] | None = None
        self._end = 0

    def begin(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write the first lines, and discard the previous content of the file.

        The lines are written to a temporary file, which then replaces the file. So the results of an earlier run are
        not lost if this process is killed meanwhile, or if the disk is full. If the file is a pipe, only the first call
        has an effect.
        """
        if self.problem or (self.begun and not self.can_go_back):
            return
        self.begun = True
        self.close()
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        target = Path(os.path.realpath(self.path))
        # A file can be writable although its folder is not.
        draft = Path(f"{target}.part") if self.can_go_back and os.access(target.parent, os.W_OK) else None
        try:
            refuse_named_pipe(draft or self.path)
            self._file = (draft or self.path).open("wb", buffering=0)
            for line in lines:
                self._put_bytes(f"{as_line(line)}\n".encode())
            if draft is not None:
                os.fsync(self._file.fileno())
                os.replace(draft, target)
            if self.can_go_back:
                self._end = self._file.tell()
        except OSError as error:
            self._give_up(error)
            if draft is not None:
                draft.unlink(missing_ok=True)

    def write(self, line: Mapping[str, Any]) -> None:
        """Write a line to the results file, in place of the last line if that one lists the running tests."""
        self._put(f"{as_line(line)}\n")
        if self._file is not None and self.can_go_back:
            self._end = self._file.tell()

    def show_running(self, tests: Collection[str]) -> None:
        """Write or replace the last line, which lists the running tests. If no tests are running, remove this line."""
        if self.can_go_back:
            self._put(f"{as_line({'running': list(tests)})}\n" if tests else "")

    def _put(self, text: str) -> None:
        """Write ``text`` to the results file, in place of the last line if that one lists the running tests."""
        if self._file is None:
            return
        try:
            if self.can_go_back:
                self._file.seek(self._end)
                self._file.truncate()
            self._put_bytes(text.encode())
        except OSError as error:
            self._give_up(error)

    def _put_bytes(self, left: bytes) -> None:
        while left and self._file is not None:  # A single call of write may write only a part.
            left = left[self._file.write(left) :]

    def close(self) -> None:
        """Close the file. Can be called more than once."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._give_up(error)
            self._file = None

    def _give_up(self, error: OSError) -> None:
        self.problem = f"{self.path}: cannot be written: {error.strerror or error}; results are missing in this file"
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


def as_line(record: Mapping[str, Any]) -> str:
    """Return a record as JSON that every parser accepts: without NaN, infinity and lone surrogates."""
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
