"""Comparison of outputs: the name of a policy and, optionally, other bounds than its defaults."""

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
"""The bounds of each policy. docs/outputs.md gives the formulas."""


class Policy(Model):
    """A policy by name. A bound that is not given has its default for the precision in which the engine computes.

    ``rel_tol`` and ``abs_tol`` are for logprobs (natural logarithm). ``margin`` is the largest difference in logprob
    between the best token and a token that is accepted in its place. ``max_kl`` is in nats.
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
    """Return the policy with its default bounds for a name; other values are returned unchanged."""
    return {"name": value} if isinstance(value, str) else value


PolicyChoice = Annotated[Policy, BeforeValidator(by_name)]
"""The name of a policy, or a mapping with ``name`` and bounds."""
