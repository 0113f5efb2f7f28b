"""Resolve the name of a model to a local folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from checkpoints import configuration, digests, folders, hub, known, places, smollm2, weights
from checkpoints.errors import CheckpointError

MODEL_LIST = "VLLM_SPYRE_TEST_MODEL_LIST"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Checkpoint:
    """A model in a local folder.

    ``name`` is the name that the user gave. ``label`` is a short name for test ids, which has only letters, digits,
    ``.``, ``_`` and ``-``. ``path`` is the folder. ``revision`` is the requested revision on the hub, or None.
    ``digest`` is the hex SHA-256 of the files that determine outputs (configuration, tokenizer, weights); it does not
    depend on the location of the folder.
    """

    name: str
    label: str
    path: Path
    revision: str | None
    digest: str


def resolve(name: str, revision: str | None = None) -> Checkpoint:
    """Return the model with this name: a built-in name, else a folder, else a hub id.

    A hub id is ``org/name``. Its revision can be given as ``org/name@revision`` or as ``revision``. A folder with the
    name of a built-in model can be given as ``./name``. The built-in model is checked against its ``SHA256SUMS`` at
    every call. ``smollm2-135m`` and hub models are downloaded if they are not on this machine. Raises CheckpointError
    if the model is not available, if its configuration has a wrong value, or if its weights are damaged.
    """
    given = name.strip()
    if not given:
        raise CheckpointError(f"the name of a model is empty: known names are {_known()}")
    plain, at, inline = given.rpartition("@")
    if given in known.NAMES or os.path.isdir(os.path.expanduser(given)) or not at:
        plain, inline = given, ""
    elif not inline or not plain:
        raise CheckpointError(f"{name!r} is not of the form org/name@revision")
    if revision is not None and not revision.strip():
        raise CheckpointError(f"the revision of {name!r} is empty")
    if inline and revision is not None and inline != revision:
        raise CheckpointError(f"{name!r} names one revision, but the given revision is {revision!r}: give only one")
    revision = revision or inline or None

    if revision is not None and (plain in known.NAMES or _folder(plain) is not None):
        raise CheckpointError(f"{plain!r} has no revisions, so leave out {revision!r}: only hub models have revisions")
    path = _named(plain) or _folder(plain) or _from_hub(plain, revision)
    wanting = folders.why_unusable(path)
    if wanting is not None:
        raise CheckpointError(f"{name!r} is not a usable checkpoint: {str(path)!r} {wanting}")
    config = configuration.read_config(path / "config.json")
    configuration.check_values(path, config)
    weights.check_weights(path, config)
    return Checkpoint(
        name=name,
        label=_label(plain, revision),
        path=path,
        revision=revision,
        digest=digests.content_digest(path),
    )


def test_models(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:  # noqa: PT028 - no test
    """Return the names in ``VLLM_SPYRE_TEST_MODEL_LIST`` in order, without duplicates.

    If the variable is not set, return the built-in model. Names are separated by commas; blanks around them and empty
    names are ignored. The names are not resolved. Raises CheckpointError if the variable has commas but no names.
    """
    value = environ.get(MODEL_LIST, "")
    if not value.strip():
        return (known.TINY_GRANITE,)
    names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if not names:
        raise CheckpointError(
            f"{MODEL_LIST} is {value!r}, which contains no model name: unset it or use some of {_known()}"
        )
    return names


# Otherwise pytest collects this function as a test in test modules that import it.
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
    # os.path.isdir, unlike Path.is_dir, returns False for a name that is too long.
    return Path(path).resolve() if os.path.isdir(path) else None


def _from_hub(name: str, revision: str | None) -> Path:
    expanded = os.path.expanduser(name)
    if os.path.isfile(expanded):
        raise CheckpointError(f"{name!r} is a file: give the folder of config.json and the weights")
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
            f"there is no folder {name!r}{hint}, and as a hub id, {error}; known names are {_known()}"
        ) from None


def _known() -> str:
    return ", ".join(known.NAMES)


def _label(name: str, revision: str | None) -> str:
    last = Path(os.path.expanduser(name)).resolve().name if _folder(name) is not None else name.rpartition("/")[2]
    if revision is not None:
        # A whole commit is too long for a test id.
        last += "-" + (revision[:8] if _COMMIT.fullmatch(revision) else revision)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-") or "model"
