"""Draw the steps of a run as a time-line, with a row for each request and a column for each step.

A *stretch* is a range of consecutive steps that are drawn as one shape, such as one prefill, or several decodes of the
same batch. ``stretches.py`` converts a step table to a ``TimeLine`` (``model.py``), which is a list of stretches.
``harness/schedulers/*/bars.py`` compute which blocks each request holds in the KV cache. ``text.py`` draws the
time-line as text for terminals, and ``svg.py`` draws it as SVG for reports and documents.
"""

from harness.schedulers.bars import Bar, Shared, Size, Stretch
from harness.timeline.model import TimeLine
from harness.timeline.sources import first_of, of_rows, of_trace, tables_of, with_tables
from harness.timeline.stretches import time_line
from harness.timeline.svg import as_svg
from harness.timeline.text import as_text, legend_of

__all__ = [
    "Bar",
    "Shared",
    "Size",
    "Stretch",
    "TimeLine",
    "as_svg",
    "as_text",
    "first_of",
    "legend_of",
    "of_rows",
    "of_trace",
    "tables_of",
    "time_line",
    "with_tables",
]
