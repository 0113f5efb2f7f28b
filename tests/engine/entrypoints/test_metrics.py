"""Tests of the metrics of prefix cache hits, preemptions and pauses, which are computed from step records."""

from types import SimpleNamespace
from typing import Any

import pytest

from engine.entrypoints.server.metrics import Metrics
from engine.request import FinishReason, Request, SamplingParams
from engine.scheduling.plan import AlignedDecode, MixedStep, Part, PrefillChunk, StepPlan


def metrics_of(**config: Any) -> Metrics:
    metrics = Metrics()
    metrics._llm = SimpleNamespace(engine=SimpleNamespace(core=SimpleNamespace(config=SimpleNamespace(**config))))  # type: ignore[assignment]
    return metrics


def value(metrics: Metrics, name: str) -> float:
    found = metrics.registry.get_sample_value(name)
    assert found is not None
    return found


def queue(metrics: Metrics, name: str, length: int) -> None:
    metrics.queued(Request(name, tuple(range(4, 4 + length)), SamplingParams(max_tokens=5)))


def step(metrics: Metrics, plan: StepPlan) -> None:
    metrics.stepped(SimpleNamespace(plan=plan, request_outputs=plan.request_ids, tokens=()))  # type: ignore[arg-type]


def part(name: str, start: int, count: int) -> Part:
    return Part(name, start, tuple(range(count)), (), (1,), False, True)


@pytest.mark.parametrize(("caching", "counted"), [(None, (300, 128)), (True, (300, 128)), (False, (0, 0))])
def test_prefix_hits_of_mixed_steps(caching: bool | None, counted: tuple[int, int]) -> None:
    metrics = metrics_of(scheduler="token_budget", enable_prefix_caching=caching)
    for name, length in (("a", 100), ("b", 200)):
        queue(metrics, name, length)
    step(metrics, MixedStep((part("a", 0, 100),), (), (("a", 0),)))
    step(metrics, MixedStep((part("b", 128, 72),), ("a",), (("b", 128),)))
    # A request that was preempted is looked up again, and not counted again.
    step(metrics, MixedStep((part("a", 64, 37),), (), (("a", 64),)))
    found = value(metrics, "vllm:prefix_cache_queries_total"), value(metrics, "vllm:prefix_cache_hits_total")
    assert found == counted
    assert value(metrics, "vllm:num_preemptions_total") == 1


def test_prompts_that_are_not_looked_up_are_not_counted() -> None:
    """As in vLLM, requests with ``prompt_logprobs`` do not read the prefix cache and are not in its metrics."""
    metrics = metrics_of(scheduler="token_budget", enable_prefix_caching=True)
    metrics.queued(Request("a", tuple(range(4, 204)), SamplingParams(max_tokens=5, prompt_logprobs=0)))
    queue(metrics, "b", 100)
    step(metrics, MixedStep((part("a", 0, 200), part("b", 64, 36)), (), (("a", 0), ("b", 64))))
    found = value(metrics, "vllm:prefix_cache_queries_total"), value(metrics, "vllm:prefix_cache_hits_total")
    assert found == (100, 64)


def test_prefix_hits_of_chunks() -> None:
    metrics = metrics_of(scheduler="chunked", enable_prefix_caching=True)
    queue(metrics, "a", 200)
    for number, start in ((2, 128), (3, 192)):
        step(metrics, PrefillChunk("a", number, 64, 0, start, (5,) * 8, (1, 2, 3, 4), 2, number == 3))
    assert value(metrics, "vllm:prefix_cache_queries_total") == 200
    assert value(metrics, "vllm:prefix_cache_hits_total") == 128


def test_a_pause_is_counted_once_until_the_sequence_decodes_again() -> None:
    metrics = metrics_of(scheduler="chunked", enable_prefix_caching=True)
    for name in ("a", "b"):
        queue(metrics, name, 9)
        step(metrics, PrefillChunk(name, 0, 64, 55, 0, (5,) * 9, (1,), 0, True))

    def decode(*names: str) -> None:
        step(metrics, AlignedDecode(names, (9,) * len(names), (64,) * len(names), ((1,),) * len(names)))

    for names in (("a", "b"), ("a",), ("a",), ("a", "b"), ("b",)):
        decode(*names)
    assert value(metrics, "spyre_cb_pauses_total") == 2
    metrics.ended("a", FinishReason.LENGTH)
    decode("b")
    assert value(metrics, "spyre_cb_pauses_total") == 2
