"""Metrics for Prometheus, which ``GET /metrics`` returns. The engine's thread updates them after each step."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from engine.config import OPTIONS
from engine.core import StepRecord
from engine.entrypoints.async_llm import AsyncLLM
from engine.request import FinishReason, Request
from engine.scheduling.plan import AlignedDecode, MixedStep, Prefill, PrefillChunk, kind_of

# Without this, each counter would also have a metric with the time of its creation.
disable_created_metrics()  # type: ignore[no-untyped-call]

TTFT_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """The counters, histograms and gauges of an engine. Implements engine_thread.Observer."""

    def __init__(self) -> None:
        self._llm: AsyncLLM | None = None
        self.restart()

    def restart(self) -> None:
        """Reset all metrics to their values at the start of a server. No request may be unfinished."""
        self.registry = CollectorRegistry()
        self._waits_since: dict[str, float] = {}
        self._last_token: dict[str, float] = {}
        self._not_started: dict[str, int] = {}
        self._paused: frozenset[str] = frozenset()
        self._prompt_tokens = self._counter("prompt_tokens", "Prompt tokens prefilled")
        self._tokens = self._counter("generation_tokens", "Tokens generated")
        self._pauses = self._counter("pauses", "Times a decoding sequence was paused")
        # Counters that vLLM has, too, have vLLM's names.
        self._preempted = self._named("vllm:num_preemptions", "Times a sequence lost its blocks to other sequences")
        self._queries = self._named("vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache")
        self._hits = self._named(
            "vllm:prefix_cache_hits", "Prompt tokens not computed because the prefix cache has them"
        )
        self._steps = self._counter("steps", "Engine steps", "kind")
        self._ended = self._counter("requests_finished", "Sequences that ended", "finish_reason")
        for reason in FinishReason:
            self._ended.labels(reason)
        self._first = Histogram(
            "spyre_cb_time_to_first_token_seconds",
            "Time from arrival to the first token",
            buckets=TTFT_BUCKETS,
            registry=self.registry,
        )
        self._between = Histogram(
            "spyre_cb_inter_token_latency_seconds",
            "Time between two tokens of a sequence",
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        if self._llm is not None:
            self.watch(self._llm)

    def watch(self, llm: AsyncLLM) -> None:
        """Add gauges that read the state of ``llm`` at each scrape."""
        self._llm = llm
        state = llm.state
        self._gauge("requests_waiting", "Sequences waiting for their prefill", lambda: len(state().waiting))
        self._gauge("requests_running", "Sequences in the decode batch", lambda: len(state().running))
        self._gauge("tkv", "Padded length of the batch, in tokens", lambda: state().tkv)
        self._gauge("blocks_used", "Blocks in use", lambda: state().n_used_blocks)
        self._gauge("blocks_reserved", "Blocks reserved", lambda: state().n_reserved_blocks)
        self._gauge("blocks_available", "Blocks for sequences in total", lambda: llm.limits.available_blocks)
        self._gauge("requests_unfinished", "Sequences whose output is not complete", lambda: llm.unfinished)
        self._gauge("engine_up", "1 while the engine runs", lambda: int(llm.dead is None))

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def queued(self, request: Request) -> None:
        self._waits_since[request.request_id] = time.monotonic()
        if request.sampling_params.prompt_logprobs is None:  # others do not read the cache, so nothing is looked up
            self._not_started[request.request_id] = len(request.prompt_token_ids)

    def stepped(self, record: StepRecord) -> None:
        now = time.monotonic()
        self._steps.labels(kind_of(record.plan)).inc()
        self._tokens.inc(len(record.tokens))
        if isinstance(record.plan, Prefill):
            self._prompt_tokens.inc(record.plan.prompt_length)
        elif isinstance(record.plan, PrefillChunk):
            self._prompt_tokens.inc(len(record.plan.token_ids))
            self._started(record.plan.request_id, record.plan.start)
        elif isinstance(record.plan, MixedStep):
            self._prompt_tokens.inc(sum(len(part.token_ids) for part in record.plan.parts if not part.is_decode))
            self._preempted.inc(len(record.plan.preempted))
            for request_id, hit in record.plan.hits:
                self._started(request_id, hit)
        elif isinstance(record.plan, AlignedDecode):
            # Every sequence that has a token and has not ended is either in this decode or paused.
            paused = self._last_token.keys() - set(record.plan.request_ids)
            self._pauses.inc(len(paused - self._paused))
            self._paused = frozenset(paused)
        for request_id in record.request_outputs:
            before = self._last_token.get(request_id)
            if before is not None:
                self._between.observe(now - before)
            elif request_id in self._waits_since:
                self._first.observe(now - self._waits_since.pop(request_id))
            self._last_token[request_id] = now

    def ended(self, request_id: str, reason: FinishReason) -> None:
        self._waits_since.pop(request_id, None)
        self._last_token.pop(request_id, None)
        self._not_started.pop(request_id, None)
        self._ended.labels(reason).inc()

    def _started(self, request_id: str, found: int) -> None:
        """Count the lookup of a prompt in the prefix cache.

        ``found`` is the number of prompt tokens that are not computed because they are found there. Only the first call
        for a request counts. Later calls are for further chunks, or for a new start after a preemption.
        """
        length = self._not_started.pop(request_id, None)
        if length is not None and self._has_prefix_cache:
            self._queries.inc(length)
            self._hits.inc(found)

    @property
    def _has_prefix_cache(self) -> bool:
        if self._llm is None:
            return False
        config = self._llm.engine.core.config
        return config.scheduler in OPTIONS and config.enable_prefix_caching is not False

    def _named(self, name: str, about: str) -> Counter:
        return Counter(name, about, registry=self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"spyre_cb_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        Gauge(f"spyre_cb_{name}", about, registry=self.registry).set_function(value)
