"""Check tokens and logprobs of a run, against Hugging Face on CPU by a policy or against the engine's own outputs."""

from harness.checks.output.batch_mates import check_alone, check_same, check_unlike, run_alone
from harness.checks.output.check import check_output

__all__ = ["check_alone", "check_output", "check_same", "check_unlike", "run_alone"]
