"""Tests of digests of files: they depend on the content, and on whether a file can be read."""

from pathlib import Path

from harness.utils.digests import content, digest_of


def test_a_digest_depends_on_every_content_and_on_the_order() -> None:
    assert digest_of(b"a", b"b") == digest_of(b"a", b"b")
    assert len({digest_of(b"a", b"b"), digest_of(b"b", b"a"), digest_of(b"ab"), digest_of(b"ab", b"")}) == 4


def test_a_file_that_cannot_be_read_is_not_like_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    empty, missing = content(tmp_path / "empty"), content(tmp_path / "missing")
    assert len({digest_of(), digest_of(empty), digest_of(missing), digest_of(empty, missing)}) == 4
    assert digest_of(empty, missing) != digest_of(missing, empty)
