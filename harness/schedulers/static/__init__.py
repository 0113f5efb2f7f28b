"""The static scheduler, a baseline: the next batch is filled only when all requests of a batch have ended.

The scheduler has the same invariants as the continuous scheduler. There is no model of its rules, so wrong steps are
not explained.
"""

from dataclasses import replace

from harness.schedulers import continuous
from harness.suites.schema import FORMATS

SPEC = replace(
    continuous.SPEC, format=FORMATS["static"], explain=lambda *_: None, search_tools=None, rule_events=lambda *_: ()
)
