"""The batch as a picture: a row a sequence, a column a step, tokens and blocks drawn as what they are.

One model (``model.py``), made from an observed or an expected step table and the sizes of the requests; drawn as text
for the terminal (``text.py``) and as SVG for reports and documents (``svg.py``).
"""

from harness.timeline.model import Bar, Size, Stretch, TimeLine, time_line
from harness.timeline.sources import first_of, of_lists, of_rows, of_trace
from harness.timeline.svg import as_svg
from harness.timeline.text import LEGEND, as_text

__all__ = [
    "LEGEND",
    "Bar",
    "Size",
    "Stretch",
    "TimeLine",
    "as_svg",
    "as_text",
    "first_of",
    "of_lists",
    "of_rows",
    "of_trace",
    "time_line",
]
