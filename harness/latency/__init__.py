"""The latency of requests: queue time, time to first token, inter-token latency, and delays by other requests."""

from harness.latency.records import Measured, latencies_of
from harness.latency.requests import RequestLatency, request_latencies

__all__ = ["Measured", "RequestLatency", "latencies_of", "request_latencies"]
