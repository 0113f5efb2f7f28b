"""Search for random workloads that an engine handles incorrectly, and shrink each as long as it still fails.

result = search(SimulationDriver(), 10_000)
if result.found:
    path = write_suite(Path("reports/found"), result.found)
"""

from harness.search.report import suite_text, write_suite
from harness.search.run import Found, SearchResult, search
from harness.search.survey import Survey, survey

__all__ = ["Found", "SearchResult", "Survey", "search", "suite_text", "survey", "write_suite"]
