"""Describe exceptions that the engine under test raises."""

import traceback
from pathlib import Path

from harness.suites.yaml import shown_file

MAX_LINES = 24


def failure_of(error: BaseException) -> str:
    """Return a line with the exception's type and message, and the file, line and function that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({shown_file(Path(frames[-1].filename))}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def traceback_of(error: BaseException) -> tuple[str, ...]:
    """Return the last lines of the exception's traceback."""
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
    return tuple(lines[-MAX_LINES:])
