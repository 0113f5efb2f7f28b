"""Check the tokens and logprobs of a run.

Tokens and logprobs are compared with those of Hugging Face transformers on CPU, or with other outputs of the same
engine. The policy of a comparison says which differences are allowed.
"""

from harness.checks.output.batch_mates import check_alone, check_same, check_unlike, run_alone
from harness.checks.output.check import check_output

__all__ = ["check_alone", "check_output", "check_same", "check_unlike", "run_alone"]
