"""Compare the results of two runs: which tests are the same, worse, better, new or gone."""

from harness.compare.changes import Change, Comparison, compare_runs
from harness.compare.results import ResultsError, Run, read_results

__all__ = ["Change", "Comparison", "ResultsError", "Run", "compare_runs", "read_results"]
