"""Hypothesis for every test: no deadlines (machines are noisy), and the same examples each time where CI is set.

The profile ``nightly`` has many examples, new ones each time; tests with an explicit number use ``budget.py``.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, database=None)
settings.register_profile("nightly", settings.get_profile("here"), max_examples=1000)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect slow tests unless ``-m`` names the marker, also in sessions without suites."""
    if "slow" in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
