"""Static batching, the baseline: a batch is filled, runs to its end, and only then is the next one filled.

It keeps the invariants of continuous batching and not its rules of who joins when, so nothing explains its steps.
"""

from dataclasses import replace

from harness.schedulers import continuous
from harness.suites.schema import FORMATS

SPEC = replace(
    continuous.SPEC, format=FORMATS["static"], explain=lambda *_: None, search_tools=None, rule_events=lambda *_: ()
)
