"""Tests of the resolution of model names to folders, and of the error messages for unknown names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import checkpoints
from checkpoints import CheckpointError, digests, folders, hub, places, smollm2

REAL = places.TINY_GRANITE
NO_TENSORS = (2).to_bytes(8, "little") + b"{}"
"""The content of a safetensors file without tensors."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a temporary folder as the cache of checkpoints instead of the user's, and return it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SPYRE_CB_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Make all downloads from the Hugging Face hub fail. Return a list that gets the arguments of each download."""
    requested: list[dict[str, object]] = []

    def download(repository: str, **options: object) -> str:
        requested.append({"repository": repository, **options})
        raise OSError("no route to the hub. Try again later.\nOr do not.")

    monkeypatch.setattr(hub, "_snapshot_download", lambda: download)
    return requested


@pytest.fixture
def make_model() -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"architectures": ["GraniteForCausalLM"]}')
        (folder / "tokenizer.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(NO_TENSORS)
        (folder / "README.md").write_text("about it")
        return folder

    return make


@pytest.fixture
def built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: Callable[[Path], Path]) -> Path:
    """Write a substitute for the built-in model, with its file SHA256SUMS, and return its folder."""
    folder = make_model(tmp_path / "package" / "tiny_granite")
    digests.write_sums(folder)
    monkeypatch.setattr(places, "TINY_GRANITE", folder)
    return folder


def refusal(name: str, revision: str | None = None) -> str:
    """Return the message of the error that the resolution of the model ``name`` must raise."""
    with pytest.raises(CheckpointError) as caught:
        checkpoints.resolve(name, revision)
    return sentence(caught.value)


def sentence(error: CheckpointError) -> str:
    text = str(error)
    assert "\n" not in text
    assert ". " not in text, "more than one sentence"
    assert not text.endswith(".")
    return text


def test_importing_is_cheap() -> None:
    heavy = "[m for m in ('torch', 'transformers', 'huggingface_hub', 'numpy') if m in sys.modules]"
    root = Path(checkpoints.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, checkpoints; print({heavy})"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_an_error_is_a_value_error_on_one_line() -> None:
    assert issubclass(CheckpointError, ValueError)
    assert str(CheckpointError("one\n  line\t only")) == "one line only"


def test_built_in(built_in: Path) -> None:
    found = checkpoints.resolve("tiny-granite")
    assert (found.name, found.label, found.path, found.revision) == ("tiny-granite", "tiny-granite", built_in, None)
    assert len(found.digest) == 64
    assert int(found.digest, 16) >= 0


@pytest.mark.skipif(not (REAL / digests.SUMS).is_file(), reason="the built-in model has not been made here")
def test_the_real_built_in_is_whole_and_supported() -> None:
    found = checkpoints.resolve("tiny-granite")
    assert found.path == REAL
    checkpoints.check_supported(found)
    entry = checkpoints.catalogue()[0]
    assert entry.name == "tiny-granite"
    assert entry.present


def test_a_changed_built_in_is_refused(built_in: Path) -> None:
    (built_in / "model.safetensors").write_bytes(b"Weights")
    text = refusal("tiny-granite")
    assert "'model.safetensors'" in text
    assert "not the file that was recorded" in text
    assert "restore" in text


def test_an_incomplete_built_in_is_refused(built_in: Path) -> None:
    (built_in / "tokenizer.json").unlink()
    assert "'tokenizer.json' is listed in SHA256SUMS but missing" in refusal("tiny-granite")
    (built_in / "SHA256SUMS").unlink()
    assert "no readable SHA256SUMS" in refusal("tiny-granite")


def test_an_unlisted_file_that_changes_outputs_is_refused(built_in: Path) -> None:
    (built_in / "notes.txt").write_text("harmless")
    checkpoints.resolve("tiny-granite")
    (built_in / "added_tokens.json").write_text("{}")
    assert "'added_tokens.json'" in refusal("tiny-granite")


@pytest.mark.parametrize("line", ["nonsense", f"{'0' * 64}  ../config.json", f"{'0' * 63}  config.json"])
def test_an_unreadable_line_of_sums_is_refused(built_in: Path, line: str) -> None:
    with (built_in / "SHA256SUMS").open("a") as sums:
        sums.write(line + "\n")
    assert "unreadable line" in refusal("tiny-granite")


def test_a_folder_by_absolute_and_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: Callable[[Path], Path]
) -> None:
    folder = make_model(tmp_path / "here" / "my model (1)")
    monkeypatch.chdir(tmp_path)
    for name in (str(folder), "here/my model (1)", "./here/my model (1)/"):
        found = checkpoints.resolve(name)
        assert found.path == folder
        assert found.name == name
        assert found.label == "my-model-1"
    monkeypatch.chdir(folder)
    assert checkpoints.resolve(".").label == "my-model-1"


def test_a_built_in_name_wins_over_a_folder_called_so(
    built_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: Callable[[Path], Path]
) -> None:
    folder = make_model(tmp_path / "tiny-granite")
    monkeypatch.chdir(tmp_path)
    assert checkpoints.resolve("tiny-granite").path == built_in
    assert checkpoints.resolve("./tiny-granite").path == folder


def test_the_digest_is_of_what_determines_outputs(tmp_path: Path, make_model: Callable[[Path], Path]) -> None:
    one, other = make_model(tmp_path / "one"), make_model(tmp_path / "other")
    first = checkpoints.resolve(str(one)).digest
    assert checkpoints.resolve(str(other)).digest == first
    (other / "README.md").write_text("another text")
    assert checkpoints.resolve(str(other)).digest == first
    seen = {first}
    for name in ("config.json", "tokenizer.json", "model.safetensors", "generation_config.json", "merges.txt"):
        header = b'{"__metadata__": {}}'
        weights = len(header).to_bytes(8, "little") + header
        (other / name).write_bytes(weights if name == "model.safetensors" else b'{"changed": true}')
        seen.add(checkpoints.resolve(str(other)).digest)
    assert len(seen) == 6


def test_a_big_file_is_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: Callable[[Path], Path]
) -> None:
    monkeypatch.setattr(digests, "REMEMBERED_FROM", 5)
    weights = make_model(tmp_path / "big") / "model.safetensors"
    hashed: list[Path] = []
    really = digests.hash_file

    def counted(path: Path) -> str:
        hashed.append(path)
        return really(path)

    monkeypatch.setattr(digests, "hash_file", counted)
    first = digests.file_digest(weights)
    assert digests.file_digest(weights) == first
    assert hashed == [weights]
    weights.write_bytes(b"other weights")
    assert digests.file_digest(weights) != first
    assert len(hashed) == 2


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: Callable[[Path], Path]
) -> None:
    monkeypatch.setattr(digests, "REMEMBERED_FROM", 0)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPYRE_CB_CACHE", str(tmp_path / "file" / "below"))
    folder = make_model(tmp_path / "model")
    assert checkpoints.resolve(str(folder)).digest == checkpoints.resolve(str(folder)).digest


def test_folders_that_are_no_checkpoint(tmp_path: Path, make_model: Callable[[Path], Path]) -> None:
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refusal(str(tmp_path / "empty"))
    folder = make_model(tmp_path / "model")
    assert "is a file: give the folder" in refusal(str(folder / "model.safetensors"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "has no weights (*.safetensors" in refusal(str(folder))


def test_a_missing_shard_is_refused(tmp_path: Path, make_model: Callable[[Path], Path]) -> None:
    folder = make_model(tmp_path / "model")
    index = folder / folders.INDEX
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    assert "lacks the weights 'model-2.safetensors'" in refusal(str(folder))
    (folder / "model-2.safetensors").write_bytes(NO_TENSORS)
    assert checkpoints.resolve(str(folder)).path == folder
    for text in ("{", "[]", "{}"):
        index.write_text(text)
        assert "cannot be read" in refusal(str(folder))


@pytest.mark.parametrize("name", ["tiny_granite", "tiny-granit", "Tiny-Granite", "./tiny-granite", "ibm/tiny-granite"])
def test_near_misses_are_pointed_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = refusal(name)
    assert "did you mean 'tiny-granite'?" in text
    assert "tiny-granite, smollm2-135m" in text


NAMES_OF_NOTHING = (
    *("", "  ", "gpt2", "a b", "-x/y", "org/", "org/na me", "org/name@", "@", "@main"),
    *("./nowhere", "/no/where", "a/b/c", "../..", "~nobody-at-all/x/y"),
    *("two\nlines", "nul\0", "x" * 5000),
)


@pytest.mark.parametrize("name", NAMES_OF_NOTHING, ids=lambda name: repr(name)[:20])
def test_every_unusable_name_gets_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert refusal(name)


def test_a_loop_of_links_is_one_sentence(tmp_path: Path, make_model: Callable[[Path], Path]) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "vocab.json").symlink_to("vocab.json")
    assert "cannot read" in refusal(str(folder))
    (tmp_path / "loop").symlink_to("loop")
    assert "no folder" in refusal(str(tmp_path / "loop"))


def test_only_hub_models_have_revisions(built_in: Path, tmp_path: Path, make_model: Callable[[Path], Path]) -> None:
    folder = make_model(tmp_path / "model")
    for name in ("tiny-granite", "smollm2-135m", str(folder)):
        assert "has no revisions" in refusal(name, "v1")
        assert "has no revisions" in refusal(f"{name}@v1")


def test_revisions_that_contradict_each_other_or_are_empty() -> None:
    assert "names one revision" in refusal("org/name@one", "two")
    assert "is empty" in refusal("org/name", " ")


def test_a_hub_model_comes_from_the_cache_if_it_is_whole_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: Callable[[Path], Path]
) -> None:
    snapshot = make_model(tmp_path / "snapshots" / "0123")
    requested: list[dict[str, object]] = []

    def download(repository: str, **options: object) -> str:
        requested.append({"repository": repository, **options})
        return str(snapshot)

    monkeypatch.setattr(hub, "_snapshot_download", lambda: download)
    found = checkpoints.resolve("org/Some.Model@release/2")
    assert (found.path, found.revision, found.label) == (snapshot, "release/2", "Some.Model-release-2")
    assert [(each["repository"], each["revision"], each["local_files_only"]) for each in requested] == [
        ("org/Some.Model", "release/2", True)
    ]
    assert checkpoints.resolve("org/model").label == "model"
    assert checkpoints.resolve("org/model", "0123456789" * 4).label == "model-01234567"


def test_a_partial_snapshot_is_completed(tmp_path: Path, make_model: Callable[[Path], Path]) -> None:
    snapshot = make_model(tmp_path / "snapshot")
    (snapshot / "model.safetensors").unlink()
    tries: list[object] = []

    def download(repository: str, **options: object) -> str:
        tries.append(options["local_files_only"])
        if not options["local_files_only"]:
            (snapshot / "model.safetensors").write_bytes(b"weights")
        return str(snapshot)

    assert hub.fetch("org/name", None, download) == snapshot
    assert tries == [True, False]


def test_an_unreachable_hub_is_one_sentence(no_hub: list[dict[str, object]]) -> None:
    text = refusal("org/name")
    assert [each["local_files_only"] for each in no_hub] == [True, False]
    assert "'org/name' is not in the local hub cache" in text
    assert "OSError: no route to the hub)" in text
    assert "known names are tiny-granite, smollm2-135m" in text


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", "accepted its licence"),
        ("RepositoryNotFoundError", "no public model of that name"),
        ("RevisionNotFoundError", "no such revision"),
        ("LocalEntryNotFoundError", "could not be reached"),
    ],
)
def test_hub_errors_are_distinguished(kind: str, message: str) -> None:
    errors = pytest.importorskip("huggingface_hub.errors")
    error = getattr(errors, kind).__new__(getattr(errors, kind))  # their constructors differ between versions

    def download(repository: str, **options: object) -> str:
        raise error

    with pytest.raises(CheckpointError) as caught:
        hub.fetch("org/name", "main", download)
    assert message in sentence(caught.value)


def test_an_offline_hub_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal("org/name")


def test_labels_are_fit_for_test_ids(tmp_path: Path, make_model: Callable[[Path], Path]) -> None:
    for name in ("plain", "with space", "ümläut", "[x]::y", "a=b,c", "--"):
        label = checkpoints.resolve(str(make_model(tmp_path / name))).label
        assert label
        assert all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in label)


def test_the_list_of_test_models() -> None:
    names = checkpoints.test_models
    variable = "VLLM_SPYRE_TEST_MODEL_LIST"
    assert names({}) == names({variable: ""}) == names({variable: " \t"}) == ("tiny-granite",)
    assert names({variable: " b , a,, b,org/x@y ,"}) == ("b", "a", "org/x@y")
    for value in (",", " , ,"):
        with pytest.raises(CheckpointError, match=variable) as caught:
            names({variable: value})
        assert "contains no model name" in sentence(caught.value)


def test_the_list_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_SPYRE_TEST_MODEL_LIST", "one,two")
    assert checkpoints.test_models() == ("one", "two")


def test_pytest_does_not_take_test_models_for_a_test() -> None:
    assert checkpoints.test_models.__test__ is False  # type: ignore[attr-defined]


def test_catalogue(built_in: Path, cache: Path) -> None:
    tiny, smol = checkpoints.catalogue()
    assert (tiny.name, tiny.parameters, tiny.present) == ("tiny-granite", 2_098_432, True)
    assert (smol.name, smol.parameters, smol.present) == ("smollm2-135m", 134_515_008, False)
    for entry in (tiny, smol):
        assert entry.summary
        assert entry.source
        assert "\n" not in entry.summary + entry.source
    (cache / smollm2.FOLDER).mkdir(parents=True)
    (built_in / "model.safetensors").unlink()
    assert [entry.present for entry in checkpoints.catalogue()] == [False, True]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_a_folder_that_cannot_be_read(tmp_path: Path, make_model: Callable[[Path], Path]) -> None:
    folder = make_model(tmp_path / "model")
    folder.chmod(0)
    try:
        assert "cannot be read" in refusal(str(folder))
    finally:
        folder.chmod(0o755)
