"""Measure how many simulated scheduler steps per second each layer runs.

    python benchmarks/simulation.py [--json FILE]

The same workload is run in several variants, which alternate: the engine core with a record per step; the harness
(driver, observations, step table), as with ``--cb-simulate``; the checks of a case (comparison with an expected table,
invariants); and the scheduler model, the independent implementation of the scheduling rules with which ``spyre-cb
search`` compares engines. Results are medians. Each is also given as a multiple of the engine core's time.
"""

import random
import time
from collections.abc import Callable

from measuring import Metric, in_turn, medians, parser_of, report

from engine.config import EngineConfig, Limits
from engine.request import Request, SamplingParams
from engine.simulation import simulated_core
from harness.checks.steps import check_steps
from harness.drivers.reference import SimulationDriver
from harness.runs.plain_decodes import as_row, shorten
from harness.runs.runner import run_workload
from harness.schedulers.continuous.invariants import check_invariants
from harness.schedulers.continuous.model import filled_in, predict
from harness.schedulers.continuous.planned import PlannedRequest
from harness.suites.schema import Request as CaseRequest
from harness.types import EngineSetup, RequestSpec, SchedulingLimits

SETUP = EngineSetup("none", "eager", 1, 512, 4)


def lengths(count: int) -> list[tuple[int, int]]:
    """Return (prompt length, ``max_tokens``) of each of ``count`` requests."""
    source = random.Random(count)
    return [(source.randint(1, 200), source.randint(1, 80)) for _ in range(count)]


def engine_core(count: int) -> Callable[[], int]:
    core = simulated_core(EngineConfig(max_model_len=SETUP.max_model_len, max_num_seqs=SETUP.max_num_seqs))
    requests = [
        Request(str(i), (0,) * prompt, SamplingParams(max_tokens=budget, temperature=0, ignore_eos=True))
        for i, (prompt, budget) in enumerate(lengths(count))
    ]

    def run() -> int:
        core.reset(Limits())
        for request in requests:
            core.add_request(request)
        records = []
        while core.has_work:
            records.append(core.step())
        return len(records)

    return run


def harness(count: int) -> Callable[[], int]:
    session = SimulationDriver().open(SETUP)
    specs, timings = requests(count)

    def run() -> int:
        session.reset(SchedulingLimits())
        return len(run_workload(session, specs, timings).steps) - 1

    return run


def checks(count: int) -> dict[str, Callable[[], int]]:
    session = SimulationDriver().open(SETUP)
    specs, timings = requests(count)
    effective = session.reset(SchedulingLimits())
    run = run_workload(session, specs, timings)
    expected = shorten(map(as_row, run.steps))
    steps = len(run.steps) - 1

    def table() -> int:
        assert check_steps(run, expected).passed
        return steps

    def invariants() -> int:
        assert check_invariants(run, specs, timings, effective).passed
        return steps

    return {"step table": table, "invariants": invariants}


def requests(count: int) -> tuple[list[RequestSpec], list[CaseRequest]]:
    pairs = lengths(count)
    specs = [RequestSpec(i, (0,) * prompt, budget) for i, (prompt, budget) in enumerate(pairs)]
    return specs, [CaseRequest.model_validate({"prompt": {"random_tokens": p}, "max_tokens": b}) for p, b in pairs]


def scheduler_model(count: int) -> Callable[[], int]:
    limits = filled_in(SchedulingLimits(), SETUP)
    planned = [PlannedRequest(prompt, budget) for prompt, budget in lengths(count)]
    return lambda: len(predict(limits, planned)) - 1


def metrics_of(count: int, repeat: int) -> list[Metric]:
    ways = {
        "engine core": engine_core(count),
        "harness": harness(count),
    } | checks(count)
    ways["scheduler model"] = scheduler_model(count)
    steps = ways["engine core"]()
    taken = medians(in_turn(ways, repeat))
    return [
        Metric(
            f"{count:,} requests: {name}",
            steps / seconds,
            " steps/s",
            at_least=100_000 if name == "harness" else None,
            base=f"{steps:,} steps, {seconds / taken['engine core']:.2f} x the engine core's time",
        )
        for name, seconds in taken.items()
    ]


def main() -> None:
    began = time.perf_counter()
    arguments = parser_of(__doc__, 5).parse_args()
    metrics = [metric for count in (20, 200, 1000) for metric in metrics_of(count, arguments.repeat)]
    report("Simulated scheduler steps a second", metrics, arguments.json, began=began)


if __name__ == "__main__":
    main()
