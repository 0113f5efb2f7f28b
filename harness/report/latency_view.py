"""Prepare the section of the HTML page about latency: the distribution of each metric in each configuration.

Latencies in steps depend only on the schedule. Latencies in milliseconds also depend on the machine.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from harness.latency import Measured, RequestLatency, latencies_of
from harness.latency.metrics import METRICS, Distribution, distributions
from harness.report.outcomes import Record

WIDTH, HEIGHT, MARGIN = 240, 18, 4


@dataclass(frozen=True)
class LatencyRow:
    """The distribution of a metric in one configuration, as text and as a box plot.

    ``values`` is the number of values in the distribution. A metric has one value for each request, except inter-token
    latency, which has one for each token after the first.
    """

    configuration: str
    values: int
    median: str
    p95: str
    largest: str
    plot: Markup


@dataclass(frozen=True)
class LatencyTable:
    """The table of one metric in one unit, ``steps`` or ``ms``. It has a row for each configuration."""

    title: str
    unit: str
    rows: tuple[LatencyRow, ...]


def latency_tables(results: Iterable[Record]) -> list[LatencyTable]:
    """Return a table for each metric in steps and, if steps were timed, then a table for each metric in milliseconds.

    Metrics that are 0 for all requests are left out. The inter-token latency in decode steps is shown in milliseconds
    only, because in steps it is always 1.
    """
    measured = measured_by_configuration(results)
    in_steps = {name: distributions(_requests(each.steps for each in found)) for name, found in measured.items()}
    in_seconds = {name: distributions(_requests(each.seconds for each in found)) for name, found in measured.items()}
    return [*_tables(in_steps, "steps", 1.0), *_tables(in_seconds, "ms", 1000.0)]


def medians_of(results: Iterable[Record]) -> Mapping[tuple[str, str], str]:
    """Return the medians of first-token and inter-token latency, by (configuration, title of the metric).

    A median is text with a unit: milliseconds if steps were timed, otherwise steps.
    """
    found: dict[tuple[str, str], str] = {}
    for name, measured in measured_by_configuration(results).items():
        timed = _requests(each.seconds for each in measured)
        metrics = distributions(timed or _requests(each.steps for each in measured))
        scale, unit = (1000.0, "ms") if timed else (1.0, "steps")
        for metric in METRICS:
            if metric.name in ("first_token", "between") and metric.name in metrics:
                found[name, metric.title] = f"{number(metrics[metric.name].median * scale)} {unit}"
    return found


def measured_by_configuration(results: Iterable[Record]) -> Mapping[str, list[Measured]]:
    """Return, for each configuration, the latencies of the requests of every test with a step table."""
    found: dict[str, list[Measured]] = {}
    for record in results:
        measured = latencies_of(record)
        if measured is not None:
            found.setdefault(_configuration(record), []).append(measured)
    return found


def _configuration(record: Record) -> str:
    name = str(record.get("configuration", ""))
    return f"{record['engine']}: {name}" if "engine" in record else name


def _requests(measured: Iterable[Sequence[RequestLatency]]) -> list[RequestLatency]:
    return [request for requests in measured for request in requests]


def _tables(by_name: Mapping[str, Mapping[str, Distribution]], unit: str, scale: float) -> list[LatencyTable]:
    tables = []
    for metric in METRICS:
        found = {name: metrics[metric.name] for name, metrics in by_name.items() if metric.name in metrics}
        largest = max((each.largest for each in found.values()), default=0.0)
        if largest and (metric.name, unit) != ("between_decodes", "steps"):
            rows = (_row(name, each, unit, scale, largest) for name, each in sorted(found.items()))
            tables.append(LatencyTable(metric.title, unit, tuple(rows)))
    return tables


def _row(name: str, found: Distribution, unit: str, scale: float, scale_end: float) -> LatencyRow:
    median, p95, largest = (number(value * scale) for value in (found.median, found.p95, found.largest))
    words = f"{name}: median {median}, 95 % at most {p95}, largest {largest} {unit}"
    return LatencyRow(name, found.count, median, p95, largest, box_plot(found, scale_end, words))


def number(value: float) -> str:
    """Return a number with three significant digits, without an exponent."""
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}"


def box_plot(found: Distribution, scale_end: float, words: str) -> Markup:
    """Return a box plot as SVG, on a scale from 0 to ``scale_end``, with the title ``words``.

    The whiskers end at the 5th and the 95th percentile, and the box at the 25th and the 75th. The bar is the median,
    and the dot the largest value.
    """

    def x(value: float) -> int:
        return MARGIN + round(value / scale_end * (WIDTH - 2 * MARGIN))

    low, first, middle, third, high = map(x, found.quantiles)
    centre, top, bottom = HEIGHT // 2, 3, HEIGHT - 3
    return Markup(
        f'<svg class="box" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{escape(words)}</title>'
        f'<path d="M{low} {centre}H{high}M{low} {top + 3}V{bottom - 3}M{high} {top + 3}V{bottom - 3}"/>'
        f'<rect x="{first}" y="{top}" width="{max(1, third - first)}" height="{bottom - top}"/>'
        f'<path class="median" d="M{middle} {top}V{bottom}"/>'
        f'<circle cx="{x(found.largest)}" cy="{centre}" r="2"/></svg>'
    )
