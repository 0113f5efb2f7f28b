"""How outputs are compared: the name of a policy and, where its own bounds are not wanted, others."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from harness.suites.schema.base import MisfitError, Model

PolicyName = Literal["exact", "published", "divergence", "golden"]
POLICY_NAMES: tuple[str, ...] = get_args(PolicyName)
Bound = Annotated[float, Field(gt=0)] | None

BOUNDS_OF: dict[str, tuple[str, ...]] = {
    "exact": ("rel_tol", "abs_tol"),
    "published": ("rel_tol",),
    "divergence": ("abs_tol", "margin"),
    "golden": ("abs_tol", "margin", "max_kl"),
}
"""The bounds that each policy has; docs/outputs.md gives the formulas."""


class Policy(Model):
    """A policy by name. A bound that is not given is that of the precision the engine computes in.

    ``rel_tol`` and ``abs_tol`` are for logprobs (natural logarithm), ``margin`` is the largest lead of the best token
    over another, in logprob, at which the other may stand in its place, ``max_kl`` is in nats.
    """

    name: PolicyName
    rel_tol: Bound = None
    abs_tol: Bound = None
    margin: Bound = None
    max_kl: Bound = None

    @model_validator(mode="after")
    def _its_own_bounds(self) -> "Policy":
        known = BOUNDS_OF[self.name]
        for name in sorted(self.model_fields_set - {"name", *known}):
            raise MisfitError(f"the policy {self.name} has no {name}", name, hint=f"its bounds are {', '.join(known)}")
        return self


def by_name(value: Any) -> Any:
    """A name where a mapping may stand: the policy with its usual bounds."""
    return {"name": value} if isinstance(value, str) else value


PolicyChoice = Annotated[Policy, BeforeValidator(by_name)]
"""A name, or a mapping with ``name`` and bounds."""
