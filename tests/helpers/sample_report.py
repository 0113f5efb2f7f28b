"""Write docs/sample-report.html, the HTML page for an engine with three mutations (injected faults).

``python -m tests.helpers.sample_report`` runs pytest with this module as a plugin, which applies the mutations.
"""

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.harness.mutations.outputs import rows_of_the_block_table_swapped
from tests.harness.mutations.schedule import batch_tkv_limit_one_too_lax, remove_at_most_one_block_of_padding
from tests.helpers.paths import ROOT

PAGE = Path("docs", "sample-report.html")
SCHEDULE_MUTATIONS = (remove_at_most_one_block_of_padding, batch_tkv_limit_one_too_lax)
SELECTION = "padding or volume_limit or joining or blocks.yaml or batches"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Apply mutations during a test: two of the schedule always, and one of the block table in output cases only.

    With the mutation of the block table, all other cases would fail as well.
    """
    with pytest.MonkeyPatch.context() as patch:
        for fault in SCHEDULE_MUTATIONS:
            fault(patch)
        if "suites/output" in item.nodeid:
            rows_of_the_block_table_swapped(patch)
        yield


def main() -> int:
    suites = ["suites/scheduler_steps", "suites/output/batches.yaml", "-m", "cpu and cb", "-k", SELECTION]
    command = [sys.executable, "-m", "pytest", "-q", "-p", __spec__.name, *suites, "--cb-html", str(PAGE)]
    done = subprocess.run(command, cwd=ROOT, check=False)
    return 0 if done.returncode == pytest.ExitCode.TESTS_FAILED else 1


if __name__ == "__main__":
    sys.exit(main())
