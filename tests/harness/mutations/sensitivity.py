"""Measure which policies for comparing outputs detect which numerical mutations of the engine.

Outputs are compared with the tolerances of float16, as on a card. Only the policy ``exact`` compares with those of
float32, since it is the policy of CPU backends. The mutation ``float16`` is not a fault, because cards compute in
float16: with it, the policy ``golden`` must pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import resolve
from engine.execution.runner import ModelRunner
from engine.kv_cache.blocks import BLOCK_SIZE
from engine.model import attention
from engine.model import inputs as batch
from engine.model.inputs import ModelInputs
from harness.checks.output.policies import resolve_policy
from harness.checks.outputs import check_outputs, prepare_outputs
from harness.drivers.base import GOLDEN_TOKENS, Session
from harness.drivers.reference import ReferenceDriver
from harness.references import Oracle
from harness.runs.runner import run_workload
from harness.suites.expand import Expanded, expand
from harness.suites.loader import load_suite
from harness.suites.prompts import request_spec, vocabulary_of
from harness.suites.schema import POLICY_NAMES, OutputCase, Policy
from harness.types import SchedulingLimits
from tests.harness.mutations.outputs import change_decode_inputs
from tests.helpers.paths import SUITES

Patch = Callable[[pytest.MonkeyPatch], None]

OUTPUT = SUITES / "output"
CASES = (
    (OUTPUT / "policies.yaml", "requests-that-come-and-go"),
    (OUTPUT / "lengths.yaml", "a-long-prompt-beside-a-short-one"),
)
ROUNDING = "computing in float16"
JUDGED_IN = {name: "float32" if name == "exact" else "float16" for name in POLICY_NAMES}


@dataclass(frozen=True)
class Numerical:
    """A mutation of the numbers that the engine computes. Its patch must be applied before an engine is started."""

    name: str
    patch: Patch


NUMERICAL: list[Numerical] = []


def numerical(name: str) -> Callable[[Patch], Patch]:
    """Return a decorator that adds a patch to NUMERICAL under the given name."""

    def register(patch: Patch) -> Patch:
        NUMERICAL.append(Numerical(name, patch))
        return patch

    return register


@numerical("a position id one too high in every decode")
def position_too_high(patch: pytest.MonkeyPatch) -> None:
    change_decode_inputs(patch, lambda made: made.position_ids.add_(1))


@numerical("a position id one too low in one row of every decode")
def position_of_one_row(patch: pytest.MonkeyPatch) -> None:
    change_decode_inputs(patch, lambda made: made.position_ids[0].sub_(1))


@numerical("one token of left padding not masked in decode")
def padding_token_in_decode(patch: pytest.MonkeyPatch) -> None:
    change_decode_inputs(patch, lambda made: made.left_padded_prompt_mask.sub_(1).clamp_(min=0))


@numerical("one token of left padding not masked in prefill")
def padding_token_in_prefill(patch: pytest.MonkeyPatch) -> None:
    mask = batch._prefill_mask
    patch.setattr(batch, "_prefill_mask", lambda n, left, dtype: mask(n, max(0, left - 1), dtype))


@numerical("a slot one too high in every decode")
def slot_off_by_one(patch: pytest.MonkeyPatch) -> None:
    change_decode_inputs(patch, lambda made: made.slot_mapping.add_(1))


@numerical("the first row of the block table shifted by one block")
def table_row_shifted(patch: pytest.MonkeyPatch) -> None:
    pad = batch.pad_block_tables

    def shifted(tables: Any, width: int) -> list[list[int]]:
        first, *others = pad(tables, width)
        return [first[1:] + first[:1], *others]

    patch.setattr(batch, "pad_block_tables", shifted)


@numerical("keys and values of the padding block leaking in")
def padding_block_leaks(patch: pytest.MonkeyPatch) -> None:
    """Let rows that are padded with block 0 attend to the last token of block 0, whose key and value are not zero.

    Correct rows attend to no token of block 0, which stands for a whole block of padding in a block table.
    """
    visible, forward = attention._visible_columns, ModelRunner.forward

    def leaky(inputs: Any) -> Any:
        seen = visible(inputs).clone()
        blocks = (inputs.block_table == 0).sum(dim=1)
        for row, count in enumerate(blocks.tolist()):
            if count:
                seen[row, 0, 0, count * BLOCK_SIZE - 1] = True
        return seen

    def with_something_in_it(self: ModelRunner, inputs: Any) -> Any:
        for tensor in (tensor for pair in self.cache for tensor in pair):
            tensor[0] = tensor[1]
        return forward(self, inputs)

    patch.setattr(attention, "_visible_columns", leaky)
    patch.setattr(ModelRunner, "forward", with_something_in_it)


@numerical(ROUNDING)
def float16(patch: pytest.MonkeyPatch) -> None:
    """Use float16 for weights, KV cache and all arithmetic except sampling."""
    start, forward = ModelRunner.__init__, ModelRunner.forward

    def in_half(self: ModelRunner, *arguments: Any) -> None:
        start(self, *arguments)
        self.model = self.model.half()
        self.cache = [(keys.half(), values.half()) for keys, values in self.cache]

    def of_half(self: ModelRunner, inputs: ModelInputs) -> torch.Tensor:
        mask = None if inputs.mask is None else inputs.mask.half()
        return forward(self, replace(inputs, mask=mask)).float()

    patch.setattr(ModelRunner, "__init__", in_half)
    patch.setattr(ModelRunner, "forward", of_half)


@dataclass(frozen=True)
class Caught:
    """How many requests a comparison policy compared, and how many of their outputs it rejected (``wrong``)."""

    wrong: int
    requests: int

    def __str__(self) -> str:
        return f"{self.wrong} of {self.requests}" if self.wrong else "–"


def caught_by(driver: ReferenceDriver, oracle: Oracle) -> dict[str, Caught]:
    """Run the output cases on new engines. Return, by the name of each policy, how many outputs it rejects."""
    sessions: dict[Any, Session] = {}
    caught = dict.fromkeys(POLICY_NAMES, Caught(0, 0))
    for path, case_id in CASES:
        test = next(t for t in expand(load_suite(path).suite, ["tiny-granite"]) if t.case.id == case_id)
        setup = test.setup
        session = sessions[setup] if setup in sessions else sessions.setdefault(setup, driver.open(setup))
        for name in POLICY_NAMES:
            passed = _passed(name, test, path, session, oracle)
            before = caught[name]
            caught[name] = Caught(before.wrong + passed.count(False), before.requests + len(passed))
    return caught


def _passed(policy: str, test: Expanded, path: Path, session: Session, oracle: Oracle) -> list[bool]:
    case = test.case
    assert isinstance(case, OutputCase)
    test = replace(test, configuration=replace(test.configuration, policy=policy))
    vocabulary = vocabulary_of(resolve("tiny-granite"))
    specs = [request_spec(request, case.id, i, vocabulary) for i, request in enumerate(case.requests)]
    made, comparison = prepare_outputs(test, case, specs, ReferenceDriver.capabilities, oracle, path, None)
    assert comparison is not None
    resolved = resolve_policy(Policy.model_validate({"name": policy}), JUDGED_IN[policy], {GOLDEN_TOKENS})
    comparison = replace(comparison, policy=resolved)
    session.reset(SchedulingLimits(**test.limits.model_dump()))
    run = run_workload(session, made, case.requests)
    return [verdict.passed for verdict in check_outputs(comparison, made, case, run, None)]


def as_table(found: Mapping[str, Mapping[str, Caught]]) -> str:
    """Return the table for docs/outputs.md as Markdown, with a row for each mutation and a column for each policy."""
    lines = [
        "| fault | " + " | ".join(f"`{name}`" for name in POLICY_NAMES) + " |",
        "| --- " * (len(POLICY_NAMES) + 1) + "|",
    ]
    for name, caught in found.items():
        cells = (str(caught[policy]) for policy in POLICY_NAMES)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def measure() -> dict[str, dict[str, Caught]]:
    """Run every numerical mutation on a new engine.

    Return how many outputs each policy rejects, by mutation and policy.
    """
    found = {}
    for mutation in NUMERICAL:
        with pytest.MonkeyPatch.context() as patch:
            mutation.patch(patch)
            found[mutation.name] = caught_by(ReferenceDriver(), Oracle())
    return found


if __name__ == "__main__":
    print(as_table(measure()), end="")
