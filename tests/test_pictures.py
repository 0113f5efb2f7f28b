"""The pictures in docs/ equal the output of the commands next to them."""

import re
import shlex
from pathlib import Path

import pytest

from harness.cli import main
from tests.helpers.paths import ROOT

DOCS = ROOT / "docs"
PAGE = (DOCS / "schedulers.md").read_text(encoding="utf-8")
COMMANDS = [line for line in PAGE.splitlines() if line.startswith("spyre-cb trace ")]


def test_every_picture_is_shown_and_there_are_no_others() -> None:
    shown = set(re.findall(r"\]\((pictures/[^)]+\.svg)\)", PAGE))
    assert shown == {f"pictures/{path.name}" for path in (DOCS / "pictures").glob("*.svg")}


def test_the_committed_pictures_are_what_the_commands_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert COMMANDS
    for command in COMMANDS:
        _, *arguments = [str(tmp_path) if word == "docs/pictures" else word for word in shlex.split(command)]
        assert main(arguments) == 0, capsys.readouterr().err
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.svg")}
    committed = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "pictures").glob("*.svg")}
    assert written == committed
