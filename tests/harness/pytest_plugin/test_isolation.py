"""Tests of process isolation: reports are the same in every mode, and a crash or a hang makes only one case fail."""

import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.pytest_plugin import items
from harness.pytest_plugin.isolation.forks import run_in_a_fork
from harness.pytest_plugin.isolation.launching import how_it_ended
from harness.pytest_plugin.isolation.stacks import without_pytest
from tests.helpers.pytest_runs import GOOD, SPAWNED, WRONG, run, simulated, write

MODES = ("--cb-isolation=none", "--cb-isolation=case", "--forked", "--cb-isolation=engine")
WORKERS = ("--cb-isolation=none -n2", "--cb-isolation=case -n2", "--cb-isolation=engine -n2")
INJECTED = """\
import ctypes, os, signal, sys, time
from engine.core import EngineCore
step = EngineCore.step
def injected(self):
    if "::injected" in os.environ.get("PYTEST_CURRENT_TEST", ""):
        print("so far so good")
        {fault}
    return step(self)
EngineCore.step = injected
"""
ROWS = GOOD.replace("suite: mine", "suite: rows").replace("five-lines", "injected")
TALKS = 'print("to stdout"); os.write(2, b"to stderr"); raise ValueError("no such row")'


def injected(folder: Path, fault: str) -> None:
    """Write three suites with one case each, and a conftest.py that injects ``fault`` into the second case."""
    write(folder, a_good=GOOD.replace("mine", "a_good"), injected=ROWS, z_good=GOOD.replace("mine", "z_good"))
    (folder / "conftest.py").write_text(INJECTED.replace("{fault}", fault), encoding="utf-8")


def results_of(file: Path) -> dict[str, dict[str, Any]]:
    return {r["test"]: r for r in map(json.loads, file.read_text(encoding="utf-8").splitlines()[1:-1])}


def timeless(text: str) -> str:
    """Return the text of a report without durations, dates, host names and worker names, which differ between runs."""
    text = re.sub(r'"(seconds|start)": [0-9.e+-]+', "", text)
    text = re.sub(r'(time|timestamp|hostname)="[^"]*"', "", text)
    text = re.sub(r'<section id="slowest">.*?</section>', "", text, flags=re.S)
    text = re.sub(r"<dt>Spent</dt>.*", "", text)
    text = re.sub(r"\b[0-9.]+ (ms|s)\b", "", text)
    return re.sub(r"<time .*?</time>|<code>pytest .*?</code>|\[gw\d\].*", "", text)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("modes")
    injected(folder, TALKS)
    write(folder, wrong=WRONG)
    return folder, reports(folder, "--cb-isolation=none")


def reports(folder: Path, mode: str) -> dict[str, str]:
    """Run suites in a mode.

    Return the reports by kind (results, junit, page), and the terminal's failures (summary).
    """
    files = {"results": "r.jsonl", "page": "r.html", "junit": "r.xml"}
    options = ["--cb-results", files["results"], "--cb-html", files["page"], "--junitxml", files["junit"]]
    done = simulated(folder, *mode.split(), *options, "-o", "junit_logging=all", ".")
    assert done.returncode == 1, done.stdout + done.stderr
    message = {kind: timeless((folder / file).read_text(encoding="utf-8")) for kind, file in files.items()}
    lines = sorted(message["results"].splitlines()[1:-1])
    tests = ElementTree.fromstring((folder / files["junit"]).read_text(encoding="utf-8")).iter("testcase")
    shown = sorted(timeless(ElementTree.tostring(test, "unicode")) for test in tests)
    summary = sorted(line for line in done.stdout.splitlines() if line.startswith("FAILED "))
    return {
        "results": "\n".join(lines),
        "junit": "\n".join(shown),
        "page": message["page"],
        "summary": "\n".join(summary),
    }


@pytest.mark.parametrize("mode", [*MODES[1:], *WORKERS, SPAWNED])
def test_reports_are_the_same_in_every_mode(plain: tuple[Path, dict[str, str]], mode: str) -> None:
    folder, expected = plain
    got = reports(folder, mode)
    assert got["results"] == expected["results"]
    assert got["junit"] == expected["junit"]
    assert got["summary"] == expected["summary"]
    assert "to stdout" in got["junit"]
    assert "to stderr" in got["junit"]
    if "-n" not in mode:  # workers finish in any order, which is the order of the page
        assert got["page"] == expected["page"]


@pytest.mark.parametrize(
    ("mode", "fault", "reported"),
    [
        *(
            (mode, "ctypes.string_at(0)", "the process that ran this case died of signal 11 (SIGSEGV)")
            for mode in (
                "--cb-isolation=case",
                "--cb-isolation=engine",
                "--cb-isolation=engine -n2",
                "--forked -n1",
                SPAWNED,
            )
        ),
        ("--cb-isolation=case", "os._exit(7)", "the process that ran this case ended with exit status 7"),
        ("--cb-isolation=engine", "os._exit(7)", "the process that ran this case ended with exit status 7"),
        (
            "--cb-isolation=engine",
            "os.kill(os.getpid(), 9)",
            "the process that ran this case died of signal 9 (SIGKILL)",
        ),
    ],
)
def test_a_crash_costs_one_case(tmp_path: Path, mode: str, fault: str, reported: str) -> None:
    injected(tmp_path, fault)
    done = simulated(tmp_path, *mode.split(), "--cb-results", "r.jsonl", ".")
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    crashed = results_of(tmp_path / "r.jsonl")["injected.yaml::injected[tiny-granite-eager]"]
    assert crashed["outcome"] == "failed"
    assert reported in crashed["text"]
    assert "request 0: 49 random tokens, max_tokens 3" in crashed["text"]
    assert "last output:\n\n  so far so good" in crashed["text"]


def test_a_crash_in_a_worker_of_xdist_costs_one_case_too(tmp_path: Path) -> None:
    injected(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)")
    done = simulated(tmp_path, "--cb-isolation=none", "-n1", ".")
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "crashed while running 'injected.yaml::injected[tiny-granite-eager]'" in done.stdout


def test_a_known_failure_may_be_a_crash(tmp_path: Path) -> None:
    injected(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)")
    reason = "https://example.org/issues/2 dies now and then"
    listed = f"known_failures:\n  - {{case: rows/injected, reason: {reason}}}\n"
    (tmp_path / "known-failures.yaml").write_text(listed, encoding="utf-8")
    done = simulated(tmp_path, "--cb-isolation=engine", ".")
    assert "2 passed, 1 xfailed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("mode", ["--cb-isolation=case", "--cb-isolation=engine", "--cb-isolation=none -n1", SPAWNED])
def test_a_hang_is_one_failed_case_with_its_stack(tmp_path: Path, mode: str) -> None:
    injected(tmp_path, "time.sleep(600)")
    done = simulated(tmp_path, *mode.split(), "--cb-case-timeout", "2", ".")
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "(--cb-case-timeout)" in done.stdout
    assert re.search(r'File ".*conftest.py", line 7 in injected', done.stdout)
    assert "_pytest/runner.py" not in done.stdout


def test_a_hang_of_a_tensor_parallel_engine_shows_where_its_workers_are(tmp_path: Path) -> None:
    one_alone = """\
from engine.tensor_parallel import workers
send = workers.Workers._send
def injected(self, connection, message):
    if not isinstance(message, workers.Step) or connection is self._connections[0]:
        send(self, connection, message)
workers.Workers._send = injected
"""
    write(tmp_path, mine=GOOD.replace("cases:", "parameters: {tensor_parallel_size: [2]}\ncases:"))
    (tmp_path / "conftest.py").write_text(one_alone, encoding="utf-8")
    done = run(tmp_path, "--cb-isolation=engine", "--cb-case-timeout", "4", ".")
    assert "1 failed" in done.stdout, done.stdout + done.stderr
    assert re.search(r'workers.py", line \d+ in step_logits', done.stdout)
    first, second = re.split(r"child process \d+ \(engine\.tensor_parallel\.worker\):", done.stdout)[1:]
    assert re.search(r"in (all_reduce|all_gather|broadcast|wait)", first)  # waits for the other worker, which is idle
    assert 'connection.py", line' in second
    assert re.search(r'worker.py", line \d+ in serve', second)


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["", "-n2"])
def test_each_engine_starts_once_and_its_cases_run_together(tmp_path: Path, workers: list[str]) -> None:
    """Run two suites, each with a case for a small and for a large engine. Each engine must be started only once.

    In the order of the files, cases of the two engines would alternate.
    """
    small = GOOD.replace("mine", "one").replace("requests:", "limits: {max_model_len: 512}\n    requests:")
    large = "  - id: large\n    limits: {max_model_len: 1024}\n" + GOOD.split("- id: five-lines\n")[1]
    write(tmp_path, one=small + large, two=(small + large).replace("suite: one", "suite: two"))
    (tmp_path / "conftest.py").write_text(
        "import os\n"
        "from harness.drivers.reference import SimulationDriver\n"
        "opened = SimulationDriver.open\n"
        "def open_(self, setup):\n"
        "    with open(os.environ['OPENED'], 'a') as file: print(setup.max_model_len, os.getpid(), file=file)\n"
        "    return opened(self, setup)\n"
        "SimulationDriver.open = open_\n"
    )
    reported = tmp_path / "opened"
    done = simulated(tmp_path, "--cb-isolation=engine", "-v", *workers, ".", OPENED=str(reported))
    assert "4 passed" in done.stdout, done.stdout + done.stderr
    lines = reported.read_text(encoding="utf-8").splitlines()
    assert sorted(line.split()[0] for line in lines) == ["1024", "512"]
    assert len({line.split()[1] for line in lines}) == 2, "each in a process of its own"


def test_with_s_what_is_printed_is_shown_as_it_comes(tmp_path: Path) -> None:
    injected(tmp_path, "pass")
    for mode in ("--cb-isolation=engine", "--forked"):
        assert "so far so good" in simulated(tmp_path, "-s", mode, ".").stdout


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        (
            ["--forked", "--cb-isolation=engine"],
            "--forked means --cb-isolation=case, so it can't be combined with --cb-isolation=engine",
        ),
        (["--cb-isolation=engine", "--cb-bless"], "--cb-bless can't be combined with --cb-isolation=engine"),
        (["--cb-isolation=case", "--pdb"], "--pdb can't be combined with --cb-isolation=case"),
        (
            ["--cb-case-timeout", "5"],
            "--cb-case-timeout needs --cb-isolation=engine or -n: a case is stopped by ending its process",
        ),
        (["--cb-case-timeout", "-1"], "--cb-case-timeout: must be a number of seconds of at least 0, not '-1'"),
        (["--cb-isolation=engin"], "--cb-isolation: invalid choice: 'engin'"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, options: list[str], reported: str) -> None:
    write(tmp_path, mine=GOOD)
    done = simulated(tmp_path, *options, ".")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert reported in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["--cb-isolation=engine", SPAWNED])
def test_a_process_that_does_not_start_says_why(tmp_path: Path, mode: str) -> None:
    write(tmp_path, mine=GOOD)
    (tmp_path / "conftest.py").write_text("import os, sys\nif 'pytest_plugin.isolation' in str(sys.orig_argv): 1 / 0\n")
    done = simulated(tmp_path, *mode.split(), ".")
    assert "1 failed" in done.stdout, done.stdout + done.stderr
    assert "ZeroDivisionError" in done.stdout


def test_processes_are_spawned_if_the_process_to_fork_has_threads(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD)
    (tmp_path / "conftest.py").write_text(
        "import sys, threading, time\n"
        "if 'harness.pytest_plugin.isolation.preloaded' in str(sys.orig_argv):\n"
        "    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    done = simulated(tmp_path, "--cb-isolation=engine", ".")
    assert "1 passed, 1 warning" in done.stdout, done.stdout + done.stderr
    assert "engines run in new processes, not in forks: a process with 2 threads can't be forked" in done.stdout


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["", "-n2"])
def test_all_engines_of_a_run_are_forked_from_one_process(tmp_path: Path, workers: list[str]) -> None:
    """Run two suites with an engine each. Each process that collects tests writes its id and command line to a file."""
    large = GOOD.replace("mine", "large").replace("requests:", "limits: {max_model_len: 1024}\n    requests:")
    write(tmp_path, small=GOOD.replace("mine", "small"), large=large)
    (tmp_path / "conftest.py").write_text(
        "import os, sys\nwith open(os.environ['STARTED'], 'a') as file: print(os.getpid(), *sys.orig_argv, file=file)\n"
    )
    reported = tmp_path / "started"
    done = simulated(tmp_path, "--cb-isolation=engine", *workers, ".", STARTED=str(reported))
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    lines = reported.read_text(encoding="utf-8").splitlines()
    assert sum("harness.pytest_plugin.isolation.preloaded" in line for line in lines) == 1
    assert not any("harness.pytest_plugin.isolation.child" in line for line in lines)


def test_a_process_with_threads_is_not_forked() -> None:
    import threading

    waiting = threading.Event()
    thread = threading.Thread(target=waiting.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="can't be forked"):
            run_in_a_fork(lambda: b"", lambda pid: None)
    finally:
        waiting.set()
        thread.join()


def test_the_end_of_a_process_is_reported_in_words() -> None:
    assert how_it_ended(-6) == "died of signal 6 (SIGABRT)"
    assert how_it_ended(-64) == "died of signal 64 (SIGRTMAX)"
    assert how_it_ended(-63) == "died of signal 63 (unknown)"
    assert how_it_ended(0) == "ended with exit status 0"


def test_of_stacks_the_frames_of_pytest_are_left_out() -> None:
    stacks = [
        "Thread 1:",
        '  File "/e.py", line 1',
        f'  File "{items.__file__}", line 2',
        '  File "/p.py"',
        "",
        "Thread 2:",
    ]
    assert without_pytest(stacks) == [*stacks[:3], *stacks[4:]]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="tensor_parallel_size 2 needs as many cores")
def test_a_forked_process_keeps_its_tensor_parallel_engine_from_case_to_case(tmp_path: Path) -> None:
    divided = GOOD.replace("cases:", "parameters: {tensor_parallel_size: [2]}\ncases:")
    write(tmp_path, one=divided.replace("mine", "one"), two=divided.replace("mine", "two"))
    done = run(tmp_path, "--cb-isolation=engine", ".")
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert "1 engine built in" in done.stdout
