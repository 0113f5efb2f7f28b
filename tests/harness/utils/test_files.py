"""Tests that files are either written as a whole or not changed."""

import os
import stat
from pathlib import Path

import pytest

from harness.utils.digests import content
from harness.utils.files import read_open, read_ordinary, refuse_named_pipe, write_text_whole, write_whole


def test_a_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")
    path.chmod(0o640)
    write_text_whole(path, "after \ud800")
    assert path.read_text() == "after \\ud800"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["a"]


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "any").write_text("")
    write_text_whole(tmp_path / "a", "x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "real").write_text("before")
    link = tmp_path / "link"
    link.symlink_to("folder/real")
    write_text_whole(link, "after")
    assert link.is_symlink()
    assert (tmp_path / "folder" / "real").read_text() == "after"


def test_a_pipe_that_is_open_is_written_to_and_read() -> None:
    reading, writing = os.pipe()
    write_text_whole(Path(f"/dev/fd/{writing}"), "through")
    os.close(writing)
    assert read_open(Path(f"/dev/fd/{reading}")) == b"through"
    os.close(reading)


def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """Opening it would wait for a process at its other end, perhaps forever."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        for refused in (read_open, read_ordinary, refuse_named_pipe, lambda path: write_whole(path, b"x")):
            with pytest.raises(OSError, match="not a regular file"):
                refused(path)
    assert content(pipe) is None
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_a_device_without_end_is_not_read() -> None:
    with pytest.raises(OSError, match="not a regular file"):
        read_open(Path("/dev/zero"))


def test_what_fails_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.utils.files.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"after")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a"]
