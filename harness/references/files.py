"""Read and write files of reference outputs.

The files are JSON with one line for each token, so that a diff shows which tokens changed. A file names its model by a
digest of the checkpoint's files, and each request by a digest of the prompt and of what affects the tokens. It also has
a digest of its own content, so that a file that was edited by hand, or is incomplete, is rejected.
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
from harness.utils.files import read_ordinary
from harness.utils.validation import must_be

FORMAT = 1
DIGITS = 6
"""Number of significant digits of logprobs in files. More digits would be rounding errors of float32."""


class ReferenceFileError(ValueError):
    """A file of reference outputs can't be read, or its digest is wrong. The message is one sentence for the user.

    It does not say how to write the file again, because the command needs the suite, which the caller knows.
    """


class _Sequence(Model):
    """The continuation of one prompt in a file. ``tokens`` has a list of numbers for each token.

    The list has the token's id and logprob, then the ids and logprobs of the top tokens at its position.
    """

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
    """The content of a file of reference outputs.

    ``model_digest`` identifies the model. ``by_key`` has the references by ``Wanted.key``, which identifies the prompt
    and everything else that affects the tokens.
    """

    model_digest: str
    by_key: Mapping[str, Reference]


_ADAPTER = TypeAdapter(_File)


def read_references(path: Path) -> ReferenceFile | None:
    """Return the content of a file of reference outputs, None if it does not exist.

    Raises ReferenceFileError if the file can't be read, or if its content is not valid.
    """
    try:
        text = read_ordinary(path).decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ReferenceFileError(f"{path}: cannot be read: {error}") from error
    try:
        data = json.loads(text)
        file = _ADAPTER.validate_python(data)
        if file.reference != FORMAT or file.digest != _digest(data):
            what = "this file of reference outputs is damaged or was edited by hand: its digest is wrong"
            raise ReferenceFileError(f"{path}: {what}")
        return ReferenceFile(file.model_digest, {s.key: _reference(s) for s in file.sequences})
    except ValidationError as error:
        first = error.errors()[0]
        where, what = ".".join(map(str, first["loc"])), must_be(first, "an object")
        raise ReferenceFileError(
            f"{path}: this is not a file of reference outputs: {': '.join(filter(None, (where, what)))}"
        ) from error
    except (ValueError, RecursionError, IndexError) as error:
        if isinstance(error, ReferenceFileError):
            raise
        raise ReferenceFileError(f"{path}: this is not a file of reference outputs: {error}") from error


def write_references(
    path: Path, checkpoint: Checkpoint, found: Sequence[tuple[Wanted, Reference]], texts: Sequence[str], made_with: str
) -> None:
    """Write a file of reference outputs. Raises OSError if that is not possible.

    ``found`` has the references to write, each with the ``Wanted`` that asked for it. ``texts`` are the decoded
    continuations, for human readers. An existing file is replaced in a single operation, so that other processes never
    read an incomplete file.
    """
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
    """Return a token as a list of numbers: its id and logprob, then the ids and logprobs of the top tokens.

    If the token is itself the first of the top tokens, it is not repeated among them, and the length of the list is
    even. Otherwise all top tokens follow, after a 0 that makes the length odd. So the length tells the two forms apart.
    """
    rest = token.top[1:] if token.top[0][0] == token.token_id else token.top
    flat: list[int | float] = [token.token_id, _rounded(token.logprob)]
    if rest is token.top:
        flat.append(0)  # An odd number of values marks a list with all top tokens, including the first one.
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
