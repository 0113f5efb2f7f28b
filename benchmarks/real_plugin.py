"""Compare the reference engine and the suites with the plugin vllm-spyre in vLLM on CPU, in a separate environment.

    make venv-vllm
    python benchmarks/real_plugin.py [--plugin-python .venv-vllm/bin/python] [--plugin-tests FOLDER] [--json FILE]

The script measures three things. First, the wall time of twelve scheduler-step scenarios from the plugin's own tests,
with outputs checked, in one process and with --forked. Second, tokens per second for 16 requests of 64 prompt tokens
and 64 new tokens at batch 4; both engines have the same model and must generate the same tokens. Third, the time of a
step with which a schedule can be checked: in the suites this is a simulated step of the reference engine, in the
plugin's tests a step of the plugin's engine.

With ``--plugin-tests``, a checkout of vllm-spyre 1.6.1, the plugin runs its own test file for the twelve scenarios.
Without that option, the plugin runs our twelve cases with ``--cb-driver vllm``, which starts fewer engines.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measuring import Metric, in_turn, medians, one_thread, parser_of, report
from workload import BATCH, CONTEXT, MODEL, NEW, REQUESTS, prompts

ROOT = Path(__file__).resolve().parents[1]
PLUGIN_PYTHON = Path(".venv-vllm/bin/python")
SCENARIOS = {
    "padding": ("prompts-aligned-with-tkv-boundaries", "prompts-misaligned-with-tkv-boundaries"),
    "leaving": ("two-sequences-finish-as-a-new-one-arrives",),
    "joining": ("new-sequence-joins-during-decode", "prompt-longer-than-the-current-tkv"),
    "context_limit": (
        "grown-tkv-would-push-a-running-sequence-too-far",
        "requested-tokens-do-not-fit-the-remaining-context",
    ),
    "blocks": (
        "prefill-needs-more-than-the-available-blocks",
        "requests-use-all-available-blocks",
        "requests-need-more-than-the-available-blocks",
    ),
    "volume_limit": ("requests-use-the-full-volume", "requests-exceed-the-volume-by-one"),
}
CASES = [
    f"suites/scheduler_steps/{file}.yaml::{case}[{MODEL}-eager]" for file, ids in SCENARIOS.items() for case in ids
]
ITS_TESTS = "tests/e2e/test_spyre_cb_scheduler_steps.py"
ITS_ENVIRONMENT = {
    "VLLM_SPYRE_UPDATE_THREAD_CONFIG": "0",
    "VLLM_SPYRE_TEST_MODEL_DIR": str(ROOT / "checkpoints"),
    "VLLM_SPYRE_TEST_MODEL_LIST": "tiny_granite",
    "VLLM_SPYRE_TEST_BACKEND_LIST": "eager",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "MASTER_ADDR": "localhost",
}
UNUSED_IMPORT = "class SentenceTransformer: ...\nclass util: ...\n"
"""A replacement for sentence_transformers, which the plugin's tests import but the twelve scenarios do not use."""


def run_to_verdict(command: list[str], folder: Path, more: dict[str, str]) -> None:
    """Run ``command``, a run of pytest, in ``folder`` with the additional environment variables ``more``.

    Raises SystemExit with the end of the output if a test fails, or if the number of tests is not twelve.
    """
    done = subprocess.run(command, cwd=folder, env=os.environ | more, capture_output=True, text=True, check=False)
    if done.returncode or "12 passed" not in done.stdout:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def ours(*more: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--cb-references", "committed"]
    run_to_verdict([*command, *more, *CASES], ROOT, {})


def its(python: Path, tests: Path | None, scratch: Path, *more: str) -> None:
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    if tests is None:
        run_to_verdict([*command, "--cb-driver", "vllm", "--cb-references", "committed", *more, *CASES], ROOT, {})
    else:
        this_run = {"PYTHONPATH": str(scratch), "MASTER_PORT": str(free_port())}
        command += ["-p", "no:spyre-cb", "-m", "cpu and cb"]
        run_to_verdict([*command, *more, ITS_TESTS], tests, ITS_ENVIRONMENT | this_run)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wall_times(python: Path, tests: Path | None, repeat: int) -> list[Metric]:
    whose = "its own tests" if tests else "its engine under our cases"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sentence_transformers.py").write_text(UNUSED_IMPORT, encoding="utf-8")
        ways = {
            (who, mode): (lambda run=run, flags=flags: run(*flags))
            for mode, flags in (("in one process", ()), ("--forked", ("--forked",)))
            for who, run in (
                ("ours", ours),
                ("its", lambda *more: its(python, tests, Path(folder), *more)),
            )
        }
        seconds = medians(in_turn(ways, repeat, warm=0))
    return [
        Metric(
            f"twelve scenarios {mode}: {whose} to ours",
            seconds["its", mode] / seconds["ours", mode],
            " ×",
            at_least=5,
            base=f"{seconds['its', mode]:.1f} s to {seconds['ours', mode]:.1f} s",
        )
        for mode in ("in one process", "--forked")
    ]


class Side:
    """A process that runs driven.py, in the environment of one of the two engines."""

    def __init__(self, python: str, name: str) -> None:
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("driven.py")), name],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.last: dict[str, Any] = {}

    def line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self._process.args))} ended with {self._process.wait()}")
        return json.loads(line)

    def run(self) -> None:
        assert self._process.stdin is not None
        print("run", file=self._process.stdin, flush=True)
        self.last = self.line()

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def simulation() -> Callable[[], int]:
    """Return a function that runs the workload as with ``--cb-simulate``, and returns the number of steps."""
    from harness.drivers.reference import SimulationDriver
    from harness.runs.runner import run_workload
    from harness.schedulers.continuous.planned import PlannedRequest
    from harness.types import EngineSetup, RequestSpec, SchedulingLimits

    session = SimulationDriver().open(EngineSetup(MODEL, "eager", 1, CONTEXT, BATCH))
    specs = [RequestSpec(i, prompt, most) for i, (prompt, most) in enumerate(prompts())]
    planned = [PlannedRequest(len(prompt), most) for prompt, most in prompts()]

    def run() -> int:
        session.reset(SchedulingLimits())
        return len(run_workload(session, specs, planned, session).steps) - 1

    return run


def side_by_side(python: Path, repeat: int) -> list[Metric]:
    sides = {"ours": Side(sys.executable, "reference"), "its": Side(str(python), "vllm")}
    try:
        for side in sides.values():
            side.line()  # ready
        taken: dict[str, list[float]] = {name: [] for name in (*sides, "simulated")}
        simulated = simulation()
        steps = simulated()
        for number in range(-1, repeat):
            for name, side in sides.items():
                side.run()
                if number >= 0:
                    taken[name].append(side.last["seconds"])
            began = time.perf_counter()
            simulated()
            if number >= 0:
                taken["simulated"].append(time.perf_counter() - began)
    finally:
        for side in sides.values():
            side.end()
    seconds = medians(taken)
    same = sum(a == b for a, b in zip(sides["ours"].last["tokens"], sides["its"].last["tokens"], strict=True))
    speed = {name: REQUESTS * NEW / seconds[name] for name in sides}
    its_step, our_step = seconds["its"] / sides["its"].last["steps"], seconds["simulated"] / steps
    return [
        Metric(
            "16 × (64 + 64), batch 4: our tokens/s to its",
            speed["ours"] / speed["its"],
            " ×",
            at_least=4,
            base=f"{speed['ours']:,.0f} tokens/s to {speed['its']:,.0f}, {repeat} rounds",
        ),
        Metric("… requests with the same tokens", 100 * same / REQUESTS, " %", at_least=100),
        Metric(
            "a step to look at the schedule: its to ours, simulated",
            its_step / our_step,
            " ×",
            at_least=1000,
            base=f"{its_step * 1e3:.1f} ms to {our_step * 1e6:.1f} µs",
        ),
    ]


def main() -> None:
    began = time.perf_counter()
    parser = parser_of(__doc__, 5)
    parser.add_argument(
        "--plugin-python", type=Path, default=PLUGIN_PYTHON, help="Python with the plugin (default: %(default)s)"
    )
    parser.add_argument("--plugin-tests", type=Path, metavar="FOLDER", help="a checkout of vllm-spyre 1.6.1")
    parser.add_argument("--verdicts", type=int, default=1, help="rounds of the twelve scenarios (default: %(default)s)")
    arguments = parser.parse_args()
    python = Path(
        os.path.abspath(arguments.plugin_python)
    )  # not resolved: the interpreter is a link out of its environment
    if not python.is_file():
        raise SystemExit(f"{arguments.plugin_python} does not exist: run make venv-vllm, or set --plugin-python")
    tests = arguments.plugin_tests and arguments.plugin_tests.resolve()
    if tests is not None and not (tests / ITS_TESTS).is_file():
        raise SystemExit(f"{arguments.plugin_tests} has no {ITS_TESTS}: give a checkout of vllm-spyre 1.6.1")
    if find_spec("engine") is None:
        sys.path.insert(0, str(ROOT))
    one_thread()
    metrics = side_by_side(python, arguments.repeat) + wall_times(python, tests, arguments.verdicts)
    report("Compared with the plugin, on CPU", metrics, arguments.json, began=began)


if __name__ == "__main__":
    main()
