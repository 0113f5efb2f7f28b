"""Two runs side by side: what is the same, what got worse or better, what is new and what is gone."""

from harness.compare.changes import Change, Comparison, compare_runs
from harness.compare.results import ResultsError, Run, read_results

__all__ = ["Change", "Comparison", "ResultsError", "Run", "compare_runs", "read_results"]
