"""Hypothesis for every test: no deadlines (machines are noisy), and the same examples each time where CI is set.

The profile ``nightly`` has many examples, new ones each time; tests with an explicit number use ``budget.py``.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, database=None)
settings.register_profile("nightly", settings.get_profile("here"), max_examples=1000)
settings.load_profile("ci" if os.environ.get("CI") else "here")
