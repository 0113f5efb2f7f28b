"""Selection of the policy for an output, and its bounds. docs/outputs.md gives the formulas and the measurements."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from checkpoints import Checkpoint
from harness.drivers.base import GOLDEN_TOKENS
from harness.suites.schema import Policy

PRECISION_OF_BACKEND: Mapping[str, str] = {"eager": "float32", "inductor": "float32", "sendnn": "float16"}
QUANTISED = "quantised"


@dataclass(frozen=True)
class Bounds:
    """Tolerances for logprobs (natural logarithm), and for tokens that replace the best token.

    ``rel_tol`` as in ``math.isclose``. ``noise``: differences up to it always pass, because the logprob of an almost
    certain token is as small as the rounding error of float32. ``margin``: the largest difference in logprob between
    the best token and a token that is accepted in its place. ``max_kl``: the largest Kullback-Leibler divergence, in
    nats.
    """

    rel_tol: float
    abs_tol: float
    noise: float
    margin: float
    max_kl: float


def _bounds(abs_tol: float) -> Bounds:
    """Return all bounds, derived from ``abs_tol``.

    If logprobs may be off by ``abs_tol``, tokens within twice that can swap ranks, and the divergence is at most
    ``abs_tol``² / 2.
    """
    return Bounds(rel_tol=0.35, abs_tol=abs_tol, noise=1e-4, margin=2 * abs_tol, max_kl=abs_tol**2 / 2)


DEFAULT_BOUNDS: Mapping[str, Bounds] = {"float32": _bounds(0.01), "float16": _bounds(0.08), QUANTISED: _bounds(0.17)}
"""By precision. 0.35, 0.08 and 0.17 are the plugin's own values, 0.01 is measured (docs/outputs.md)."""


@dataclass(frozen=True)
class ResolvedPolicy:
    """A policy with every bound filled in. ``precision`` is the precision in which the engine computes."""

    name: str
    precision: str
    bounds: Bounds

    @property
    def needs_same_tokens(self) -> bool:
        """Return whether the policy ``published`` requires identical tokens.

        It does if the engine computes in the reference's precision.
        """
        return self.precision == "float32"


def default_policy(precision: str, capabilities: Collection[str]) -> str:
    """Return the name of the policy that is used if none is requested."""
    if precision == "float32":
        return "exact"
    return "golden" if GOLDEN_TOKENS in capabilities else "divergence"


def resolve_policy(requested: Policy | None, precision: str, capabilities: Collection[str]) -> ResolvedPolicy:
    """Return the policy for a comparison: the requested one, else the default; likewise for its bounds."""
    policy = requested or Policy.model_validate({"name": default_policy(precision, capabilities)})
    default = DEFAULT_BOUNDS[precision]
    given = policy.model_dump(exclude={"name"}, exclude_none=True)
    # A requested tolerance below the noise bound replaces it.
    noise = min(default.noise, given.get("abs_tol", default.noise))
    return ResolvedPolicy(policy.name, precision, Bounds(**{**_as_dict(default), **given, "noise": noise}))


def _as_dict(bounds: Bounds) -> dict[str, float]:
    return {name: getattr(bounds, name) for name in Bounds.__dataclass_fields__}


def precision_of(backend: str, checkpoint: Checkpoint) -> str:
    """Return the precision in which an engine computes on a backend: ``float32``, ``float16`` or ``quantised``."""
    config = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    return QUANTISED if config.get("quantization_config") else PRECISION_OF_BACKEND[backend]
