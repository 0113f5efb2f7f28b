"""The metrics of latency, and the distribution of their values over all requests of a configuration."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.latency.requests import RequestLatency


@dataclass(frozen=True)
class Metric:
    """A metric of latency: its name in files, its title in reports, and a function that computes it for a request.

    The function ``values`` returns a sequence, because a metric can have any number of values for a request. For
    example, inter-token latency has a value for each token after the first.
    """

    name: str
    title: str
    values: Callable[[RequestLatency], Sequence[float]]

    def of_all(self, requests: Iterable[RequestLatency]) -> list[float]:
        """Return the values of this metric for all ``requests`` in one list."""
        return [value for request in requests for value in self.values(request)]


METRICS = (
    Metric("queue", "queue time", lambda request: (request.queue,)),
    Metric("first_token", "time to first token", lambda request: (request.first_token,)),
    Metric("between", "inter-token latency", lambda request: request.between),
    Metric("between_decodes", "inter-token latency, decode steps only", lambda request: request.between_decodes),
    Metric("prefills", "held up by prefills of others", lambda request: (request.prefills,)),
    Metric("suspended", "paused or preempted", lambda request: (request.suspended,)),
)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Distribution:
    """The distribution of one metric: the number of values, one value for each of ``QUANTILES``, and the maximum."""

    count: int
    quantiles: tuple[float, ...]
    largest: float

    @property
    def median(self) -> float:
        return self.quantiles[QUANTILES.index(0.5)]

    @property
    def p95(self) -> float:
        return self.quantiles[QUANTILES.index(0.95)]


def distribution(values: Iterable[float]) -> Distribution | None:
    """Return the distribution of the values, None if there are no values.

    Quantiles are not interpolated: each quantile is one of the values.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    last = len(ordered) - 1
    return Distribution(len(ordered), tuple(ordered[round(last * share)] for share in QUANTILES), ordered[-1])


def distributions(requests: Sequence[RequestLatency]) -> Mapping[str, Distribution]:
    """Return, by the name of each metric, the distribution of its values over all requests.

    Metrics that have no value for any request are left out.
    """
    found = {metric.name: distribution(metric.of_all(requests)) for metric in METRICS}
    return {name: values for name, values in found.items() if values is not None}
