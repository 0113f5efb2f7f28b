"""Check the committed pictures in ``docs/pictures`` against the commands in pages of ``docs/`` that write them."""

import re
import shlex
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.cli import main

FOLDER = "docs/pictures"


class StalePictureError(Exception):
    """A committed picture differs from the one that its command writes.

    The message has the name of the picture, and the commands that write all pictures.
    """


def commands(root: Path) -> Iterator[str]:
    """Yield the commands ``spyre-cb trace … --svg docs/pictures`` in pages of ``docs/``."""
    for page in sorted((root / "docs").glob("*.md")):
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith("spyre-cb trace ") and line.endswith(f"--svg {FOLDER}"):
                yield line


def check_pictures(root: Path) -> None:
    """Run the commands and compare the pictures that they write with the committed ones.

    Raises StalePictureError if a picture differs or is missing, if no command writes it, or if a command fails.
    """
    with TemporaryDirectory() as folder:
        for command in commands(root):
            _, *arguments = [folder if word == FOLDER else word for word in shlex.split(command)]
            with chdir(root):
                status = main([*arguments, "-o", f"{folder}/text"])
            if status != 0:
                raise StalePictureError(f"`{command}` failed with exit status {status}")
        written = _pictures(Path(folder))
    committed = _pictures(root / FOLDER)
    wrong = sorted(name for name in {*written, *committed} if written.get(name) != committed.get(name))
    if wrong:
        again = "; ".join(commands(root))
        raise StalePictureError(f"{FOLDER}/{wrong[0]} is not what a command writes; to write all pictures:  {again}")


def _pictures(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.svg")}


def shown(root: Path) -> set[str]:
    """Return the names of the files in ``docs/pictures`` that pages show."""
    pages = (page.read_text(encoding="utf-8") for page in (root / "docs").glob("*.md"))
    return {name for page in pages for name in re.findall(r"\]\(pictures/([^)]+\.svg)\)", page)}
