"""Tests that a tokenizer that transformers cannot load is an error of one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from checkpoints import CheckpointError, load_tokenizer, places


@pytest.mark.parametrize(
    ("content", "reason"), [("{}", "KeyError: 'added_tokens'"), ("", "JSONDecodeError: Expecting value")]
)
def test_a_damaged_tokenizer(tmp_path: Path, content: str, reason: str) -> None:
    folder = Path(shutil.copytree(places.TINY_GRANITE, tmp_path / "copy"))
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(folder)
    start = f"{folder / 'tokenizer.json'}: the tokenizer cannot be read: "
    assert str(caught.value).startswith(start + reason)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(folder)
    assert str(caught.value).startswith(f"{folder}: the tokenizer cannot be read: ")
