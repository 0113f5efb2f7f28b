"""Tests of the command line: the output of each command. Invalid arguments give one sentence and status 2."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from harness.cli import CUT_OFF, INTERRUPTED, main
from harness.suites.loader import load_suite
from tests.helpers.paths import ROOT


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("VLLM_SPYRE_TEST_MODEL_LIST", raising=False)


COMMANDS = [
    [],
    ["init"],
    ["completion"],
    ["cases"],
    ["trace"],
    ["search"],
    ["references"],
    ["known-failures"],
    ["schema"],
    ["models"],
    ["models", "fetch"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_fits_a_screen_and_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= (24 if command else 28), "the list of commands has a line for each"
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("example") for line in lines)
    assert "  spyre-cb" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("caess", "invalid choice: 'caess' (choose from 'run', 'init', 'cases', 'trace', 'search', 'references', "),
        ("cases --jsn", "unrecognized arguments: --jsn"),
        ("cases --js", "unrecognized arguments: --js"),
        ("cases nowhere", "'nowhere' cannot be read: No such file or directory"),
        ("cases engine", "engine: there is no suite in this folder"),
        ("cases --marker cbb", "--marker: 'cbb' (did you mean 'cb'?) is not a marker; the markers are: "),
        ("cases --marker cpu,cb", "'cpu,cb' (did you mean"),
        ("cases --marker (", "'(' is not a marker"),
        ("cases pyproject.toml", "pyproject.toml:"),
        ("trace", "the following arguments are required: FILE"),
        ("trace pyproject.toml", "pyproject.toml: is not JSON"),
        ("trace suites/scheduler_steps/joining.yaml --attention none", "invalid choice: 'none'"),
        ("trace suites/scheduler_steps/joining.yaml --simulate --model x", "so it can't be combined with --model"),
        ("trace suites/scheduler_steps/joining.yaml --model tiny-granit", "did you mean 'tiny-granite'?"),
        ("trace suites/scheduler_steps/joining.yaml --simulate -o /nowhere/x", "/nowhere/x: cannot be written"),
        (
            "trace docs/pictures/workloads.json -o docs/../docs/pictures/workloads.json",
            "would overwrite the input docs/",
        ),
        ("search --workloads -1", "must be a whole number of at least 0, not '-1'"),
        ("search --workloads x", "must be a whole number of at least 0, not 'x'"),
        ("search --workloads 0", "nothing to do: --workloads and --model-laws are both 0"),
        ("trace docs/pictures/workloads.json --output=", "must be the name of a file or folder, not ''"),
        ("report --verdict --history= x", "--history: must be the name of a file or folder, not ''"),
        ("known-failures pyproject.toml --write=", "--write: must be the name of a file or folder, not ''"),
        ("run --max-tests 0", "--max-tests: must be at least 1, and a whole number, not '0'"),
        ("run --html= suites", "--html: must be the name of a file, not ''"),
        ("run --known-failures= suites", "--known-failures: must be the name of a file, not ''"),
        ("run ::a", "PATH must be the name of a file or folder, not '::a'"),
        ("models fetch", "the following arguments are required: NAME"),
        ("models fetch tiny-granit", "did you mean 'tiny-granite'?"),
        ("models list", "invalid choice: 'list'"),
    ],
)
def test_what_is_typed_wrongly_is_one_sentence(arguments: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.startswith("spyre-cb")
    assert len(err.splitlines()) == 1


def test_a_marker_expression_is_not_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cases", "--marker", "cpu and cb"]) == 2
    assert "--marker takes one name, not 'cpu and cb'" in capsys.readouterr().err


def test_a_model_list_that_names_nothing_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLLM_SPYRE_TEST_MODEL_LIST", " , ")
    assert main(["cases"]) == 2
    assert "VLLM_SPYRE_TEST_MODEL_LIST" in capsys.readouterr().err


def test_every_mistake_in_a_suite_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "wrong.yaml"
    suite.write_text("suite: wrong\nkind: output\ncases: []\n", encoding="utf-8")
    assert main(["cases", str(tmp_path)]) == 2
    assert f"{suite}:3:" in capsys.readouterr().err


def test_a_suite_that_grows_too_large_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "suites/scheduler_steps/joining.yaml").read_text(encoding="utf-8")
    (tmp_path / "many.yaml").write_text(text.replace("cases:\n", "max_tests: 1\ncases:\n"), encoding="utf-8")
    assert main(["cases", str(tmp_path)]) == 2
    assert "more than max_tests 1" in capsys.readouterr().err


def test_cases_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cases", "suites/scheduler_steps/joining.yaml", "--json", "--marker", "spyre"]) == 0
    listed = json.loads(capsys.readouterr().out)
    cases = load_suite(Path("suites/scheduler_steps/joining.yaml")).suite.cases
    assert listed["counts"] == {"suites": 1, "cases": len(cases), "tests": len(cases), "left_out": {}}
    assert [test["id"] for test in listed["tests"]] == [case.id for case in cases]
    first = listed["tests"][0]
    assert first["configuration"] == "tiny-granite-sendnn"
    assert set(first["markers"]) >= {"cb", "scheduler_steps", "spyre"}
    assert first["limits"] == cases[0].limits.model_dump(exclude_none=True)
    assert first["described"] == cases[0].described()


def test_cases_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "some" / "suite.yaml"
    suite.parent.mkdir()
    suite.write_text(
        "suite: some\nkind: output\nmarkers: cb\nparameters: {backend: [eager, sendnn]}\ncases:\n"
        "  - id: one\n    requirement: CB-ONE-01\n    requests:\n"
        "      - {prompt: {random_tokens: 3}, max_tokens: 2, abort_step: 7}\n    expect: {output: reference}\n",
        encoding="utf-8",
    )
    assert main(["cases", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"some  ({suite}): 1 case, 2 tests",
        "  one  CB-ONE-01",
        "    limits: as built",
        "    request 0: 3 random tokens, max_tokens 2, is aborted at step 7",
        "    [tiny-granite-eager]  cb cpu output",
        "    [tiny-granite-sendnn]  cb output simulated spyre",
        "",
        "1 suite, 1 case, 2 tests",
    ]
    assert main(["cases", str(suite), "--marker", "cb", "--marker", "behaviour"]) == 2
    assert "none of the 2 tests has the markers cb and behaviour" in capsys.readouterr().err


def test_cases_are_those_that_pytest_collects(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cases", "--json", "--marker", "cpu"]) == 0
    listed = {
        f"{test['file']}::{test['id']}[{test['configuration']}]"
        for test in json.loads(capsys.readouterr().out)["tests"]
    }
    arguments = ["-m", "pytest", "--collect-only", "-q", "-m", "cpu", "suites", "-p", "no:cacheprovider"]
    collected = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60).stdout
    assert listed == {line for line in collected.splitlines() if "::" in line}


def test_listing_imports_no_torch() -> None:
    script = (
        "import sys; from harness.cli import main; main(['cases']); main(['schema']); main(['models']); "
        "sys.exit('torch' in sys.modules or 'hypothesis' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60).returncode == 0


def test_a_trace_goes_to_a_file_or_to_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = "suites/scheduler_steps/joining.yaml"
    assert main(["trace", suite, "--simulate"]) == 0
    printed = capsys.readouterr().out
    assert main(["trace", suite, "--simulate", "-o", str(tmp_path / "out.json")]) == 0
    assert (tmp_path / "out.json").read_text(encoding="utf-8") == printed
    assert json.loads(printed)[0]["steps"][1] == [1, 64, [], [0], [0], [], 2, 1]


def test_the_schema_is_one_of_json_and_takes_single_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {branch["$ref"].split("/")[-1] for branch in schema["oneOf"]} == {
        "StepsSuite",
        "OutputSuite",
        "BehaviourSuite",
    }
    assert [kind["type"] for kind in schema["$defs"]["Parameters"]["properties"]["model"]["anyOf"]] == [
        "string",
        "array",
    ]
    assert schema["$defs"]["Request"]["additionalProperties"] is False


def test_models_are_listed_and_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert "tiny-granite" in capsys.readouterr().out
    assert main(["models", "fetch", "tiny-granite"]) == 0
    path, digest = (line.split() for line in capsys.readouterr().out.splitlines())
    assert path == ["path", str(ROOT / "checkpoints" / "tiny_granite")]
    assert digest[0] == "digest"
    assert len(digest[1]) == 64


def test_a_search_that_finds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--workloads", "20", "--seed", "5"]) == 0
    assert "20 workloads, " in (out := capsys.readouterr().out)
    assert "no failure found (seed 5)" in out
    assert "they get alone" not in out  # no model ran


@pytest.mark.parametrize("more", [[], ["--all"]])
def test_a_search_on_a_model_counts_requests(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--scheduler", "token_budget", "--workloads", "0", "--model-laws", "3", *more]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    found = re.fullmatch(
        r"(\d+) requests got the same tokens in the batch as alone, (\d+) of them were preempted", last
    )
    assert found is not None, last
    assert int(found[1]) >= 3


def test_a_search_that_finds_something(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.scheduling.continuous.scheduler import ContinuousScheduler

    monkeypatch.setattr(ContinuousScheduler, "_may_join", lambda self, sequence: not self._running)
    assert main(["search", "--workloads", "3000", "--write", str(tmp_path / "found")]) == 1
    out = capsys.readouterr().out
    [path] = (tmp_path / "found").iterdir()
    assert "step 2 is a decode of 0, expected a prefill of 1" in out
    assert "by the rules: step 2: prefill of 1, admissible at tkv 64" in out
    assert f'written to {path}; to see it fail:  python -m pytest "{path}" --cb-simulate' in out
    assert len(load_suite(path).suite.cases) == 1


def test_a_folder_that_cannot_be_written_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.scheduling.continuous.scheduler import ContinuousScheduler

    monkeypatch.setattr(ContinuousScheduler, "_may_join", lambda self, sequence: not self._running)
    assert main(["search", "--workloads", "3000", "--write", "pyproject.toml"]) == 2
    out, err = capsys.readouterr()
    assert "pyproject.toml: results cannot be written: pyproject.toml is not a writable folder" in err
    assert out == ""


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = [sys.executable, "-m", "harness", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == CUT_OFF


def test_a_full_disk_is_no_traceback() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "harness", "schema"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "spyre-cb: standard output cannot be written: No space left on device\n"


def test_control_c_is_no_traceback() -> None:
    command = [sys.executable, "-m", "harness", "search", "--workloads", "1000000"]
    # Background jobs start with SIGINT ignored, and their children inherit that.
    listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=listens) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"engine under test")
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30)[1] == b""
            assert process.returncode == INTERRUPTED
        finally:
            process.kill()
