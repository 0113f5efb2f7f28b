"""The static scheduler, a baseline: a batch is filled, and runs to its end before the next batch is filled.

It has the same invariants as the continuous scheduler, but no model of its rules, so wrong steps are not explained.
"""

from dataclasses import replace

from harness.schedulers import continuous
from harness.suites.schema import FORMATS

SPEC = replace(
    continuous.SPEC, format=FORMATS["static"], explain=lambda *_: None, search_tools=None, rule_events=lambda *_: ()
)
