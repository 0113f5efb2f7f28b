"""From the name of a model to a folder on this disk."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from checkpoints import digests, folders, hub, known, places, smollm2
from checkpoints.errors import CheckpointError

MODEL_LIST = "VLLM_SPYRE_TEST_MODEL_LIST"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Checkpoint:
    """A model on this disk.

    ``name`` is what the user typed; ``label`` a short form of it fit for a test id, made of letters,
    digits, ``.``, ``_`` and ``-``; ``path`` the folder; ``revision`` the hub revision that was asked
    for, None if none was; ``digest`` the hex SHA-256 of everything in the folder that determines
    outputs (configuration, tokenizer, weights), the same wherever the folder is.
    """

    name: str
    label: str
    path: Path
    revision: str | None
    digest: str


def resolve(name: str, revision: str | None = None) -> Checkpoint:
    """Find a model: a name of ``catalogue()``, then a folder, then a hub id.

    A hub id is ``org/name`` or ``org/name@revision``; ``revision`` may be given either way. A folder
    called like a built-in model is reached as ``./name``. The built-in model is checked against its
    ``SHA256SUMS`` every time; ``smollm2-135m`` and hub models may be fetched, which takes time, disk
    and a network once. Raises CheckpointError, one sentence, if the model is not to be had.
    """
    asked = name.strip()
    if not asked:
        raise CheckpointError(f"the name of a model is empty: known names are {_known()}")
    plain, at, inline = asked.rpartition("@")
    if asked in known.NAMES or os.path.isdir(os.path.expanduser(asked)) or not at:
        plain, inline = asked, ""
    elif not inline or not plain:
        raise CheckpointError(f"{name!r} is not of the form org/name@revision")
    if revision is not None and not revision.strip():
        raise CheckpointError(f"the revision asked for with {name!r} is empty")
    if inline and revision is not None and inline != revision:
        raise CheckpointError(f"{name!r} names one revision and the revision asked for with it is {revision!r}")
    revision = revision or inline or None

    if revision is not None and (plain in known.NAMES or _folder(plain) is not None):
        raise CheckpointError(f"{plain!r} has no revisions, so {revision!r} cannot be one: only hub models have them")
    path = _named(plain) or _folder(plain) or _from_hub(plain, revision)
    wanting = folders.why_unusable(path)
    if wanting is not None:
        raise CheckpointError(f"{name!r} is no usable checkpoint: {str(path)!r} {wanting}")
    return Checkpoint(
        name=name,
        label=_label(plain, revision),
        path=path,
        revision=revision,
        digest=digests.content_digest(path),
    )


def test_models(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:  # noqa: PT028 - no test
    """The names in ``VLLM_SPYRE_TEST_MODEL_LIST``, in order and each once; the built-in model if it is unset.

    Names are separated by commas; blanks around them and empty ones are dropped. Nothing is resolved.
    Raises CheckpointError if the variable is set and has commas but no names.
    """
    value = environ.get(MODEL_LIST, "")
    if not value.strip():
        return (known.TINY_GRANITE,)
    names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if not names:
        raise CheckpointError(f"{MODEL_LIST} is {value!r}, which names no model: unset it or name some of {_known()}")
    return names


# pytest would take a function of this name for a test wherever a test module imports it.
test_models.__test__ = False  # type: ignore[attr-defined]


def _named(name: str) -> Path | None:
    if name == known.TINY_GRANITE:
        remedy = "the built-in model is damaged, so restore its folder from the repository"
        digests.check_sums(places.TINY_GRANITE, remedy)
        return places.TINY_GRANITE
    if name == known.SMOLLM2:
        return smollm2.ensure()
    return None


def _folder(name: str) -> Path | None:
    path = os.path.expanduser(name)
    # os.path.isdir, unlike Path.is_dir, takes an overlong name for a folder that is not there.
    return Path(path).resolve() if os.path.isdir(path) else None


def _from_hub(name: str, revision: str | None) -> Path:
    expanded = os.path.expanduser(name)
    if os.path.isfile(expanded):
        raise CheckpointError(f"{name!r} is a file: give the folder that holds config.json and the weights")
    if os.path.isabs(expanded) or name.startswith(".") or name.endswith("/") or name.count("/") > 1:
        raise CheckpointError(
            f"there is no folder {name!r}{known.did_you_mean(name)}: give a folder that exists,"
            f" a hub id of the form org/name, or one of {_known()}"
        )
    if _HUB_ID.fullmatch(name) is None:
        raise CheckpointError(
            f"no model is called {name!r}{known.did_you_mean(name)}: it is neither a known name ({_known()})"
            " nor a folder here nor a hub id of the form org/name"
        )
    try:
        return hub.fetch(name, revision)
    except CheckpointError as error:
        hint = known.did_you_mean(name)
        raise CheckpointError(
            f"no folder {name!r} is here{hint}, and as a hub id, {error}; known names are {_known()}"
        ) from None


def _known() -> str:
    return ", ".join(known.NAMES)


def _label(name: str, revision: str | None) -> str:
    last = Path(os.path.expanduser(name)).resolve().name if _folder(name) is not None else name.rpartition("/")[2]
    if revision is not None:
        # A whole commit is too long for a test id.
        last += "-" + (revision[:8] if _COMMIT.fullmatch(revision) else revision)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-") or "model"
