"""Tests that the pictures in docs/ are up to date: the commands shown next to them write the same files."""

import shutil
from pathlib import Path

import pytest

from docs_site.pictures import StalePictureError, check_pictures, commands, shown
from tests.helpers.paths import ROOT


def test_every_picture_is_shown_and_there_are_no_others() -> None:
    assert shown(ROOT) == {path.name for path in (ROOT / "docs" / "pictures").glob("*.svg")}


def test_the_committed_pictures_are_what_the_commands_write() -> None:
    assert len(list(commands(ROOT))) >= 2
    check_pictures(ROOT)


def test_a_stale_picture_is_an_error_with_the_command(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.html"))
    shutil.copytree(ROOT / "suites", tmp_path / "suites")
    stale = tmp_path / "docs" / "pictures" / "twins-in-one-batch.svg"
    stale.write_text(stale.read_text(encoding="utf-8").replace("step", "steps", 1), encoding="utf-8")
    with pytest.raises(
        StalePictureError, match=r"twins-in-one-batch\.svg is not .* to write all pictures:  spyre-cb trace"
    ):
        check_pictures(tmp_path)
