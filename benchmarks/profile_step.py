"""Measure the time of each operator in a step with torch's profiler.

    python benchmarks/profile_step.py [--model tiny-granite] [--kind decode|prefill] [--rows 12]

The script prints, in milliseconds per step, the time in each operator of torch and in each loop of
engine/optimized/kernels.py, without the time in operators that it calls. "outside operators" is the time in Python,
which is too large, because the profiler slows Python down. The times of operators can be compared with each other.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

from measuring import MODELS, one_thread
from rich.console import Console
from rich.table import Table

BATCH, CONTEXT = 4, 200
STEPS = {"tiny-granite": 30, "smollm2-135m": 5}


def runs(model: str, kind: str) -> Callable[[], Any]:
    """Return a function that runs a step: a decode of four rows with 200 tokens each, or a prefill of 64 tokens."""
    from engine.build import build_engine
    from engine.config import EngineConfig
    from engine.scheduling.plan import Decode, Prefill

    runner: Any = build_engine(EngineConfig(model=model, max_num_seqs=BATCH)).core._executor
    if kind == "prefill":
        return lambda: runner.logits(Prefill("a", 64, 64, 0, (1,)), [7] * 64)
    tables = tuple(tuple(range(1 + 4 * row, 5 + 4 * row)) for row in range(BATCH))
    plan = Decode(tuple("abcd"), CONTEXT, (0,) * BATCH, tables)
    return lambda: runner.logits(plan, [7] * BATCH)


def show_loops() -> None:
    """Make the profiler show the loops of engine/optimized/kernels.py, which are not operators of torch."""
    from torch.profiler import record_function

    from engine.optimized import kernels

    for name in ("multiply", "score", "weigh"):
        loop = getattr(kernels, name)

        def named(*arguments: Any, name: str = name, loop: Any = loop) -> None:
            with record_function(f"kernels.{name}"):
                loop(*arguments)

        setattr(kernels, name, named)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=MODELS[0], help="default: %(default)s")
    parser.add_argument("--kind", choices=("decode", "prefill"), default="decode", help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=12, help="number of operators shown (default: %(default)s)")
    arguments = parser.parse_args()
    one_thread()
    from torch.profiler import ProfilerActivity, profile

    show_loops()
    run, steps = runs(arguments.model, arguments.kind), STEPS.get(arguments.model, 10)
    for _ in range(3):
        run()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        began = time.perf_counter()
        for _ in range(steps):
            run()
        whole = time.perf_counter() - began
    averages = sorted(profiled.key_averages(), key=lambda each: -each.self_cpu_time_total)
    inside = sum(each.self_cpu_time_total for each in averages) / 1e6
    title = f"{arguments.model}, {arguments.kind}: {whole / steps * 1e3:.2f} ms a step"
    table = Table(title=title, title_justify="left")
    for name in ("operator", "ms a step", "share", "calls a step"):
        table.add_column(name, justify="left" if name == "operator" else "right")
    for each in averages[: arguments.rows]:
        own = each.self_cpu_time_total / 1e6
        table.add_row(each.key, f"{own / steps * 1e3:.3f}", f"{own / whole:.1%}", f"{each.count / steps:g}")
    others = inside - sum(each.self_cpu_time_total for each in averages[: arguments.rows]) / 1e6
    table.add_row("other operators", f"{others / steps * 1e3:.3f}", f"{others / whole:.1%}", "")
    table.add_row("outside operators", f"{(whole - inside) / steps * 1e3:.3f}", f"{1 - inside / whole:.1%}", "")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
