"""Measure the engine's overhead in a decode step: the time for scheduling, tensors, sampling and the step record.

    python benchmarks/step_overhead.py [--json FILE]

The overhead is the time of the step minus the time of ibm-fms's forward in that step. The batch has four greedy
sequences. It is measured on both models, without logprobs and with 5 logprobs per token.
"""

import statistics
import time
from typing import Any

from measuring import MODELS, Metric, milliseconds, one_thread, parser_of, report

BATCH, PROMPT = 4, 64
STEPS = {"tiny-granite": 100, "smollm2-135m": 25}


class TimedForward:
    """A wrapper around a model's forward that sums the seconds spent in it."""

    def __init__(self, model: Any) -> None:
        self.seconds = 0.0
        self._forward = model.forward
        model.forward = self

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        began = time.perf_counter()
        try:
            return self._forward(*arguments, **more)
        finally:
            self.seconds += time.perf_counter() - began


def steps(core: Any, forward: TimedForward, count: int, logprobs: int | None) -> list[tuple[float, float]]:
    """Return (seconds of the step, seconds of the model's forward in it) for each decode of a full batch."""
    from engine.config import Limits
    from engine.request import Request, SamplingParams
    from engine.scheduling.plan import Decode

    core.reset(Limits())
    params = SamplingParams(max_tokens=count, temperature=0, ignore_eos=True, logprobs=logprobs)
    for number in range(BATCH):
        core.add_request(Request(str(number), tuple(range(10, 10 + PROMPT)), params))
    taken = []
    while core.has_work:
        forward.seconds = 0.0
        began = time.perf_counter()
        record = core.step()
        whole = time.perf_counter() - began
        if isinstance(record.plan, Decode) and len(record.plan.request_ids) == BATCH:
            taken.append((whole, forward.seconds))
    return taken


def measure(model: str, repeat: int) -> list[Metric]:
    from engine.build import build_engine
    from engine.config import EngineConfig

    engine = build_engine(EngineConfig(model=model, max_model_len=512, max_num_seqs=BATCH))
    forward = TimedForward(engine.executor.model)
    ways: dict[str, int | None] = {"greedy": None, "greedy, 5 logprobs": 5}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, logprobs in ways.items():
            taken[name] += steps(engine.core, forward, STEPS[model], logprobs)
    metrics = []
    for name, pairs in taken.items():
        step = statistics.median(whole for whole, _ in pairs)
        overhead = statistics.median(whole - inside for whole, inside in pairs)
        base = f"{milliseconds(overhead)} of {milliseconds(step)}, {len(pairs)} steps"
        metrics.append(
            Metric(f"{model}, {name}: on top of the forward", 100 * overhead / step, " %", at_most=5, base=base)
        )
    return metrics


def main() -> None:
    began = time.perf_counter()
    arguments = parser_of(__doc__, 3).parse_args()
    one_thread()
    metrics = [metric for model in MODELS for metric in measure(model, arguments.repeat)]
    report("Engine overhead in a decode step, batch 4", metrics, arguments.json, began=began)


if __name__ == "__main__":
    main()
