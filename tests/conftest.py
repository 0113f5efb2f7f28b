"""Settings for all tests: Hypothesis profiles, and slow tests that run only if ``-m`` names their marker.

Hypothesis has no deadlines, since other load on a machine makes tests slow. Where the variable CI is set, it generates
the same examples in each run. The profile ``nightly`` generates more examples, and new ones in each run. Tests that set
a number of examples of their own get it from tests/helpers/budget.py.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, database=None)
settings.register_profile("nightly", settings.get_profile("here"), max_examples=1000)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests with the marker ``slow`` unless ``-m`` names that marker, also in sessions without suites."""
    if "slow" in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
