"""Files of reference outputs: JSON with one token a line, so that a changed token is a changed line.

A file identifies its model by a digest of the checkpoint's content, each prompt by a digest of its tokens, and has a
digest of its own content: a file that was edited by hand, or cut off, is rejected.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from checkpoints import Checkpoint
from harness.references.values import Reference, ReferenceToken, Wanted
from harness.suites.schema import Model

FORMAT = 1
DIGITS = 6
"""Significant digits of a logprob: those of float32, without its noise."""


class ReferenceFileError(ValueError):
    """A file of references can't be read, or its digest is wrong. The message is one sentence."""


class _Sequence(Model):
    """One continuation in a file. A token is a flat list: id, logprob, then the top tokens."""

    key: str
    prompt_tokens: int
    text: str
    tokens: list[list[int | float]]


class _File(Model):
    reference: int
    model: str
    model_digest: str
    made_with: str
    digest: str
    sequences: list[_Sequence]


@dataclass(frozen=True)
class ReferenceFile:
    """The content of a file: references by ``Wanted.key``, of the model with this digest."""

    model_digest: str
    by_key: Mapping[str, Reference]


_ADAPTER = TypeAdapter(_File)


def read_references(path: Path) -> ReferenceFile | None:
    """Return the content of a file, None if it does not exist. Raises ReferenceFileError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ReferenceFileError(f"{path}: cannot be read: {error}") from error
    try:
        data = json.loads(text)
        file = _ADAPTER.validate_python(data)
        if file.reference != FORMAT or file.digest != _digest(data):
            raise ReferenceFileError(f"{path}: is damaged or was edited (its digest is wrong); run spyre-cb references")
        return ReferenceFile(file.model_digest, {s.key: _reference(s) for s in file.sequences})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ReferenceFileError(f"{path}: is not a file of references: {where}: {first['msg']}") from error
    except (ValueError, RecursionError, IndexError) as error:
        if isinstance(error, ReferenceFileError):
            raise
        raise ReferenceFileError(f"{path}: is not a file of references: {error}") from error


def write_references(
    path: Path, checkpoint: Checkpoint, found: Sequence[tuple[Wanted, Reference]], texts: Sequence[str], made_with: str
) -> None:
    """Write a file atomically. ``texts`` are for human readers. Raises OSError."""
    sequences = [_as_data(wanted, reference, text) for (wanted, reference), text in zip(found, texts, strict=True)]
    head = {
        "reference": FORMAT,
        "model": checkpoint.label,
        "model_digest": checkpoint.digest,
        "made_with": made_with,
        "digest": "",
    }
    data = {**head, "sequences": list({s["key"]: s for s in sequences}.values())}
    data["digest"] = _digest(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(_text(data), encoding="utf-8")
    os.replace(draft, path)


def _as_data(wanted: Wanted, reference: Reference, text: str) -> dict[str, Any]:
    return {
        "key": wanted.key,
        "prompt_tokens": len(wanted.prompt_token_ids),
        "text": text,
        "tokens": [_flat(token) for token in reference.tokens],
    }


def _flat(token: ReferenceToken) -> list[int | float]:
    """Return a token as a flat list: id, logprob, then the top tokens, without the first if it is the token itself."""
    rest = token.top[1:] if token.top[0][0] == token.token_id else token.top
    flat: list[int | float] = [token.token_id, _rounded(token.logprob)]
    if rest is token.top:
        flat.append(0)  # an odd number of values marks a complete list of top tokens
    for token_id, logprob in rest:
        flat += [token_id, _rounded(logprob)]
    return flat


def _reference(sequence: _Sequence) -> Reference:
    return Reference(tuple(map(_token, sequence.tokens)))


def _token(flat: Sequence[int | float]) -> ReferenceToken:
    own = (int(flat[0]), float(flat[1]))
    complete = len(flat) % 2 == 1
    rest = flat[3:] if complete else flat[2:]
    pairs = tuple((int(rest[i]), float(rest[i + 1])) for i in range(0, len(rest), 2))
    return ReferenceToken(*own, pairs if complete else (own, *pairs))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _digest(data: Mapping[str, Any]) -> str:
    content = {name: value for name, value in data.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _text(data: Mapping[str, Any]) -> str:
    lines = ["{"]
    lines += [f" {_json(name)}: {_json(value)}," for name, value in data.items() if name != "sequences"]
    lines.append(' "sequences": [')
    last_sequence = len(data["sequences"]) - 1
    for i, sequence in enumerate(data["sequences"]):
        facts = ", ".join(f"{_json(name)}: {_json(value)}" for name, value in sequence.items() if name != "tokens")
        lines.append(f'  {{{facts}, "tokens": [')
        rows = [json.dumps(row, separators=(",", ":")) for row in sequence["tokens"]]
        lines += [f"   {row}," for row in rows[:-1]] + [f"   {rows[-1]}"]
        lines.append("  ]}" + ("," if i < last_sequence else ""))
    return "\n".join([*lines, " ]", "}"]) + "\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)
