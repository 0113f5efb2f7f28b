"""The static scheduler, a baseline: a new batch is filled only when all requests of the previous batch have ended.

The scheduler has the same invariants as the continuous scheduler. It has no scheduler model (an independent
implementation of its rules), so failures do not say what the rules require at a wrong step.
"""

from dataclasses import replace

from harness.schedulers import continuous
from harness.suites.schema import FORMATS

SPEC = replace(
    continuous.SPEC, format=FORMATS["static"], explain=lambda *_: None, search_tools=None, rule_events=lambda *_: ()
)
