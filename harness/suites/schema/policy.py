"""The format of the key ``policy``: how outputs are compared with those of Hugging Face, and with which tolerances."""

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
"""The names of the tolerances that each policy has. docs/outputs.md gives the formulas."""

LARGEST: dict[str, tuple[float, str]] = {
    "rel_tol": (0.99, "two logprobs never differ by more than the larger of them, so that 1 accepts every logprob"),
    "abs_tol": (1.0, "a logprob that is wrong by 1 is a probability that is wrong by a factor of 2.7"),
    "margin": (2.0, "a token that is less likely by more than this can't be the best even with abs_tol 1"),
    "max_kl": (0.5, "the divergence can't be larger even with abs_tol 1"),
}
"""The largest value of each tolerance, and why. With larger tolerances, wrong outputs pass.

``margin`` and ``max_kl`` follow from ``abs_tol``, as in docs/outputs.md: 2 · ``abs_tol`` and ``abs_tol``² / 2.
"""


class Policy(Model):
    """A way to compare outputs with those of Hugging Face, with tolerances. docs/outputs.md describes each policy.

    ``rel_tol`` and ``abs_tol`` are tolerances of logprobs (natural logarithms). ``margin`` is the maximum difference in
    logprob between the best token and another token that is accepted in its place. ``max_kl`` is the maximum
    Kullback-Leibler divergence, in nats. A tolerance that is None has its default, which depends on the engine's
    precision.
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
            hint = f"the tolerances of this policy are {', '.join(known)}"
            raise MisfitError(f"the policy {self.name} has no tolerance {name}", name, hint=hint)
        return self

    @model_validator(mode="after")
    def _can_fail(self) -> "Policy":
        for name, (largest, why) in LARGEST.items():
            if (value := getattr(self, name)) is not None and value > largest:
                raise MisfitError(f"{name} must be at most {largest:g}, not {value:.15g}", name, hint=why)
        return self


def by_name(value: Any) -> Any:
    """Convert the name of a policy to a policy with the default tolerances. Other values are returned unchanged."""
    return {"name": value} if isinstance(value, str) else value


PolicyChoice = Annotated[Policy, BeforeValidator(by_name)]
"""The name of a policy, or a mapping with ``name`` and tolerances."""
