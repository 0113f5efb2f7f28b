"""Compare the backend ``inductor`` with ``eager``: a decode step with four sequences, and the start of an engine.

    python benchmarks/compiled.py [--json FILE]

The model is tiny-granite. Each engine is started in a process of its own, first with an empty compiler cache on disk,
then with the cache that the first engine wrote. Steps of both backends alternate in one process, with the warm cache.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import Metric, in_turn, medians, milliseconds, one_thread, parser_of, report

ROOT = Path(__file__).resolve().parents[1]
BATCH, CONTEXT, STEPS = 4, 128, 20
START = "from engine.build import build_engine; from engine.config import EngineConfig; build_engine(EngineConfig({}))"


def started(backend: str, cache: str) -> float:
    """Return the seconds from the start of a new process until its engine accepts requests."""
    command = [sys.executable, "-c", START.format(f"backend={backend!r}")]
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"an engine with backend {backend} did not start:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


def main() -> None:
    began = time.perf_counter()
    arguments = parser_of(__doc__, 9).parse_args()
    one_thread()
    from engine.backends import inductor

    if inductor.cpp_compiler() is None:
        raise SystemExit(f"backend inductor needs a C++ compiler ({', '.join(inductor.COMPILERS)} or $CXX)")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        cold, warm, eager = started("inductor", cache), started("inductor", cache), started("eager", cache)
        seconds = steps(arguments.repeat)
    metrics = [
        Metric(
            "decode step, batch 4: eager to compiled",
            seconds["eager"] / seconds["inductor"],
            " ×",
            base=f"{milliseconds(seconds['eager'])} to {milliseconds(seconds['inductor'])}",
        ),
        Metric("start of an engine, compiled, nothing cached", cold, " s"),
        Metric("start of an engine, compiled, cache on disk", warm, " s"),
        Metric("start of an engine, eager", eager, " s"),
    ]
    report("The compiled backend", metrics, arguments.json, began=began)


def steps(repeat: int) -> dict[str, float]:
    """Return the seconds of a decode step on each backend."""
    from engine.build import build_engine
    from engine.config import EngineConfig
    from engine.scheduling.plan import Decode

    tables = tuple((1 + 2 * row, 2 + 2 * row) for row in range(BATCH))
    plan = Decode(tuple("abcd"), CONTEXT - 1, (0,) * BATCH, tables)
    runners = {b: build_engine(EngineConfig(backend=b)).executor for b in ("eager", "inductor")}

    def way(name: str) -> None:
        for _ in range(STEPS):
            runners[name].logits(plan, (7, 8, 9, 10))

    taken = medians(in_turn({name: (lambda name=name: way(name)) for name in runners}, repeat))
    return {name: value / STEPS for name, value in taken.items()}


if __name__ == "__main__":
    main()
