"""Draw the batch as a time-line: a row for each sequence, a column for each step, with tokens and blocks.

The model (``model.py``) is made from an observed or expected step table and the sizes of requests (``stretches.py``;
the layout of each scheduler is in ``harness/schedulers/*/bars.py``). It is drawn as text for the terminal (``text.py``)
and as SVG for reports and documents (``svg.py``).
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
