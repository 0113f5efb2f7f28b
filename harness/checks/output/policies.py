"""Which policy an output is compared by, and its bounds; docs/outputs.md gives formulas and what was measured."""

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
    """How far off a logprob (natural logarithm) may be, and what may stand in place of the best token.

    ``rel_tol`` as in ``math.isclose``; ``noise``: differences up to it always pass, because the logprob of a token that
    is all but certain is as small as the noise of float32 itself. ``margin``: the largest lead of the best token, in
    logprob, at which another may stand in its place. ``max_kl``: the largest Kullback-Leibler divergence, in nats.
    """

    rel_tol: float
    abs_tol: float
    noise: float
    margin: float
    max_kl: float


def _bounds(abs_tol: float) -> Bounds:
    """All bounds from one. Tokens whose logprobs may each be off by ``abs_tol`` can change places within twice that;
    logprobs that are all off by ``abs_tol`` at most make a divergence of ``abs_tol``² / 2 at most.
    """
    return Bounds(rel_tol=0.35, abs_tol=abs_tol, noise=1e-4, margin=2 * abs_tol, max_kl=abs_tol**2 / 2)


DEFAULT_BOUNDS: Mapping[str, Bounds] = {"float32": _bounds(0.01), "float16": _bounds(0.08), QUANTISED: _bounds(0.17)}
"""By what the engine computes in. 0.35, 0.08 and 0.17 are the plugin's own, 0.01 is measured (docs/outputs.md)."""


@dataclass(frozen=True)
class ResolvedPolicy:
    """A policy with every bound filled in. ``precision`` is what the engine computes in."""

    name: str
    precision: str
    bounds: Bounds

    @property
    def needs_same_tokens(self) -> bool:
        """Whether the published rule asks for identical tokens: where the engine computes as the reference does."""
        return self.precision == "float32"


def default_policy(precision: str, capabilities: Collection[str]) -> str:
    """The policy where nobody asks for one."""
    if precision == "float32":
        return "exact"
    return "golden" if GOLDEN_TOKENS in capabilities else "divergence"


def resolve_policy(asked: Policy | None, precision: str, capabilities: Collection[str]) -> ResolvedPolicy:
    """The policy to compare by: what was asked for, else the usual one; bounds likewise."""
    policy = asked or Policy.model_validate({"name": default_policy(precision, capabilities)})
    usual = DEFAULT_BOUNDS[precision]
    given = policy.model_dump(exclude={"name"}, exclude_none=True)
    # Who asks for less than the noise means it.
    noise = min(usual.noise, given.get("abs_tol", usual.noise))
    return ResolvedPolicy(policy.name, precision, Bounds(**{**_as_dict(usual), **given, "noise": noise}))


def _as_dict(bounds: Bounds) -> dict[str, float]:
    return {name: getattr(bounds, name) for name in Bounds.__dataclass_fields__}


def precision_of(backend: str, checkpoint: Checkpoint) -> str:
    """What an engine computes in on that backend: ``float32``, ``float16`` or ``quantised``."""
    config = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    return QUANTISED if config.get("quantization_config") else PRECISION_OF_BACKEND[backend]
