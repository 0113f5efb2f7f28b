"""Select how outputs are compared with those of Hugging Face.

A policy (``exact``, ``published``, ``divergence`` or ``golden``) says which differences are allowed, within tolerances.
docs/outputs.md describes the policies, and the formulas and measurements behind the tolerances.
"""

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
    """Tolerances of a comparison. Logprobs are natural logarithms.

    ``rel_tol`` and ``abs_tol`` are the relative and absolute tolerance of logprobs, as in ``math.isclose``. Differences
    of at most ``noise`` are always accepted, because the logprob of an almost certain token is as small as a rounding
    error of float32. ``margin`` is the maximum difference in logprob between the best token and another token that is
    accepted in its place. ``max_kl`` is the maximum Kullback-Leibler divergence, in nats.
    """

    rel_tol: float
    abs_tol: float
    noise: float
    margin: float
    max_kl: float


def _bounds(abs_tol: float) -> Bounds:
    """Return the tolerances that follow from ``abs_tol``, the maximum error of a logprob.

    With such errors, two tokens can swap ranks if their logprobs differ by at most 2 * ``abs_tol``, and the
    Kullback-Leibler divergence between engine and reference is at most ``abs_tol``² / 2.
    """
    return Bounds(rel_tol=0.35, abs_tol=abs_tol, noise=1e-4, margin=2 * abs_tol, max_kl=abs_tol**2 / 2)


DEFAULT_BOUNDS: Mapping[str, Bounds] = {"float32": _bounds(0.01), "float16": _bounds(0.08), QUANTISED: _bounds(0.17)}
"""Default tolerances by precision.

0.35, 0.08 and 0.17 are from vllm-spyre's tests; 0.01 is measured (docs/outputs.md).
"""


@dataclass(frozen=True)
class ResolvedPolicy:
    """A policy with all its tolerances. ``precision`` is the precision in which the engine computes."""

    name: str
    precision: str
    bounds: Bounds

    @property
    def needs_same_tokens(self) -> bool:
        """Return whether the policy ``published`` requires that engine and reference generate identical tokens.

        It requires this only of engines that compute in float32, as the reference does.
        """
        return self.precision == "float32"


def default_policy(precision: str, capabilities: Collection[str]) -> str:
    """Return the name of the policy to use if neither the suite, the case nor the command line names one.

    ``capabilities`` are those of the driver.
    """
    if precision == "float32":
        return "exact"
    return "golden" if GOLDEN_TOKENS in capabilities else "divergence"


def resolve_policy(requested: Policy | None, precision: str, capabilities: Collection[str]) -> ResolvedPolicy:
    """Return the policy ``requested``, or the default policy if it is None, with all tolerances.

    For each tolerance that ``requested`` does not set, the default for ``precision`` is used.
    """
    policy = requested or Policy.model_validate({"name": default_policy(precision, capabilities)})
    default = DEFAULT_BOUNDS[precision]
    given = policy.model_dump(exclude={"name"}, exclude_none=True)
    # If the requested abs_tol is smaller than the default noise, noise is reduced to abs_tol.
    noise = min(default.noise, given.get("abs_tol", default.noise))
    return ResolvedPolicy(policy.name, precision, Bounds(**{**_as_dict(default), **given, "noise": noise}))


def _as_dict(bounds: Bounds) -> dict[str, float]:
    return {name: getattr(bounds, name) for name in Bounds.__dataclass_fields__}


def precision_of(backend: str, checkpoint: Checkpoint) -> str:
    """Return the precision in which an engine computes on a backend: ``float32``, ``float16`` or ``quantised``."""
    config = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    return QUANTISED if config.get("quantization_config") else PRECISION_OF_BACKEND[backend]
