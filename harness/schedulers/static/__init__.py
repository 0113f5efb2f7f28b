"""Static batching, the baseline: a batch is filled and runs to its end before the next one is filled.

It has the invariants of continuous batching, but no model of its rules, so its steps are not explained.
"""

from dataclasses import replace

from harness.schedulers import continuous
from harness.suites.schema import FORMATS

SPEC = replace(
    continuous.SPEC, format=FORMATS["static"], explain=lambda *_: None, search_tools=None, rule_events=lambda *_: ()
)
