"""Tests of suites that pytest runs in a subprocess, in a folder outside this repository."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.pytest_runs import GOLDEN, GOOD, WRONG, run, write


def test_a_suite_anywhere_on_disk_runs(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD)
    done = run(tmp_path, "mine.yaml", "-v", "--cb-simulate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mine.yaml::five-lines[tiny-granite-eager] PASSED" in done.stdout
    assert "mine.yaml: 1 case x 1 configuration = 1 test" in done.stdout


def test_a_failing_step_shows_the_table_and_the_rule(tmp_path: Path) -> None:
    write(tmp_path, wrong=WRONG)
    done = run(tmp_path, "--cb-simulate", "wrong.yaml")
    assert done.returncode == 1
    assert "step 2 differs (decode of 0): tkv 65, expected 99" in done.stdout
    assert "65≠99" in done.stdout
    assert "rule: docs/scheduling-rules.md" in done.stdout
    assert "wrong.yaml:5" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_page_and_the_results_are_written(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD, wrong=WRONG)
    done = run(tmp_path, "--cb-simulate", "--cb-html", "out/page.html", "--cb-results", "out/results.jsonl")
    assert done.returncode == 1
    assert (tmp_path / "out/page.html").read_text(encoding="utf-8").count("five-lines") >= 2
    lines = (tmp_path / "out/results.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    assert '"passed": 1' in lines[-1]
    assert '"failed": 1' in lines[-1]


@pytest.mark.parametrize("mode", [["--forked"], ["-n", "2"], ["-n", "2", "--forked"]], ids=" ".join)
def test_isolated_runs_report_the_same(tmp_path: Path, mode: list[str]) -> None:
    write(tmp_path, mine=GOOD, wrong=WRONG)
    done = run(tmp_path, *mode, "--cb-results", "results.jsonl")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "65≠99" in done.stdout
    results = (tmp_path / "results.jsonl").read_text(encoding="utf-8")
    assert "step 2 differs (decode of 0)" in results


def test_the_mission_command_runs_on_a_simulated_card_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD.replace("cases:", "parameters: {backend: [eager, sendnn]}\ncases:"))
    reports = ("--cb-results", "results.jsonl", "--cb-html", "page.html")
    done = run(tmp_path, "-svx", "-m", "spyre and cb and simulated", "--forked", *reports, ".")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 deselected" in done.stdout
    assert "backend: sendnn (simulated), because torch_sendnn is not installed" in done.stdout
    compiled = "sendnn (simulated): 1 engine, 2 graphs, 0 recompiles after warm-up"
    assert compiled in done.stdout
    _, test, footer = map(json.loads, (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines())
    assert footer["backends"] == ["sendnn (simulated)"]
    assert test["backend"] == "sendnn (simulated)"
    assert footer["compiled"] == [compiled]
    assert compiled in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("mode", [[], ["-n", "1"]], ids=["plain", "-n 1"])
def test_a_simulated_card_is_an_error_where_hardware_is_required(tmp_path: Path, mode: list[str]) -> None:
    write(tmp_path, mine=GOOD.replace("cases:", "parameters: {backend: [eager, sendnn]}\ncases:"))
    done = run(tmp_path, "-m", "spyre", "--cb-require-hardware", *mode, ".")
    assert done.returncode not in (0, 5)
    assert re.search(r"--cb-require-hardware: .* would run on sendnn \(simulated\)", done.stdout + done.stderr)
    assert "Traceback" not in done.stdout + done.stderr
    assert run(tmp_path, "-m", "cpu", "--cb-require-hardware", *mode, ".").returncode == 0


def test_a_marker_that_does_not_exist_is_an_error_that_names_those_that_do(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD)
    done = run(tmp_path, "-m", "spyre and cbb", ".")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "'cbb' (did you mean 'cb'?) is not a marker; the markers are: behaviour, cb, " in done.stdout + done.stderr


def test_a_marker_expression_that_selects_nothing_says_so(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD)
    done = run(tmp_path, "-m", "spyre and cpu", ".")
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert '-m "spyre and cpu" selects none' in done.stdout


def test_a_malformed_suite_is_one_line_and_the_others_run(tmp_path: Path) -> None:
    write(tmp_path, bad=GOOD.replace("max_tokens", "max_token"), mine=GOOD)
    done = run(tmp_path, "--cb-simulate", ".")
    assert done.returncode == 1
    assert "1 passed, 1 error" in done.stdout
    assert "bad.yaml:6:" in done.stdout
    assert "max_tokens" in done.stdout
    assert "Traceback" not in done.stdout


def test_an_unknown_marker_in_a_suite_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, bad=GOOD.replace("[cb]", "[cbb]"))
    done = run(tmp_path, "--cb-simulate", ".")
    assert done.returncode != 0
    where = "bad.yaml:3:11: markers[0]"
    assert f"{where}: marker 'cbb' is not known — did you mean 'cb'? the markers of the harness are" in done.stdout


def test_lint_errors_are_reported_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "requirements.yaml").write_text("requirements: {CB-X-01: {}}\n", encoding="utf-8")
    text = GOOD.replace(
        "  - id: five-lines\n", "  - id: five-lines\n    markers: [cb, slw]\n    requirement: CB-X-02\n"
    )
    write(tmp_path, mine=text, other=GOOD)
    done = run(tmp_path, "--cb-simulate", ".")
    assert "mine.yaml:6:19: cases[0].markers[1]: marker 'slw' is not known — did you mean 'slow'?" in done.stdout
    missing = "mine.yaml:7:18: cases[0].requirement[0]: the requirement CB-X-02 does not exist"
    assert f"{missing} — did you mean 'CB-X-01'?" in done.stdout
    place = "other.yaml:1:8: suite"
    hint = f"in {tmp_path.name}/ the name of a suite is its path: other"
    assert f"{place}: must be 'other', but is 'mine' — {hint}" in done.stdout


def test_two_suites_that_would_share_their_expectations_are_refused(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD)
    (tmp_path / "mine.yml").write_text(GOOD, encoding="utf-8")
    done = run(tmp_path, "--cb-simulate", ".")
    assert "2 errors" in done.stdout
    assert "mine.yaml:1:1: this suite and mine.yml in the same folder" in done.stdout
    assert "mine.yml:1:1: this suite and mine.yaml in the same folder" in done.stdout


def test_more_tests_than_max_tests_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD.replace("cases:", "max_tests: 1\nparameters: {backend: [eager, sendnn]}\ncases:"))
    done = run(tmp_path, "--cb-simulate", ".")
    assert done.returncode != 0
    expected = "the suite has 1 cases x 2 configurations = 2 tests, more than max_tests 1 — to run that many"
    assert f"mine.yaml:4:12: max_tests: {expected}" in done.stdout
    assert run(tmp_path, "--cb-simulate", "--cb-max-tests", "2", ".").returncode == 0


def test_limits_beyond_reason_are_one_sentence(tmp_path: Path) -> None:
    text = GOOD.replace("requests:", "limits: {max_batch_tkv_limit: 999999999}\n    requests:")
    write(tmp_path, mine=text)
    done = run(tmp_path, "--cb-simulate", ".")
    assert done.returncode == 1
    assert "max_batch_tkv_limit 999999999 exceeds the 2048 that the engine was built with" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_missing_golden_table_fails_and_bless_writes_it(tmp_path: Path) -> None:
    write(tmp_path, mine=GOLDEN)
    done = run(tmp_path, "--cb-simulate", ".")
    assert done.returncode == 1
    assert "there is no golden step table" in done.stdout
    assert 'python -m pytest "mine.yaml::needs-a-table[tiny-granite-eager]" --cb-bless' in done.stdout
    golden = tmp_path / "expectations/mine/needs-a-table.yaml"
    assert not golden.exists()

    assert run(tmp_path, "--cb-simulate", "--cb-bless", ".").returncode == 0
    assert "[ 1,    64," in golden.read_text(encoding="utf-8")
    assert run(tmp_path, "--cb-simulate", ".").returncode == 0


def test_bless_is_refused_where_ci_is_set(tmp_path: Path) -> None:
    write(tmp_path, mine=GOLDEN)
    done = run(tmp_path, "--cb-simulate", "--cb-bless", ".", CI="true")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "not written in CI; if this is not CI, unset the environment variable CI" in done.stderr


def test_the_models_of_the_run_come_from_the_environment(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD)
    copy = tmp_path / "models" / "other"
    copy.parent.mkdir()
    copy.symlink_to(ROOT / "checkpoints" / "tiny_granite")
    done = run(tmp_path, "-v", "mine.yaml", VLLM_SPYRE_TEST_MODEL_LIST="tiny-granite, models/other")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "five-lines[tiny-granite-eager] PASSED" in done.stdout
    assert "five-lines[other-eager] PASSED" in done.stdout


@pytest.mark.parametrize("mode", [[], ["-n", "2"], ["--forked"]], ids=lambda mode: " ".join(mode) or "plain")
def test_a_missing_model_is_one_error_at_the_start(tmp_path: Path, mode: list[str]) -> None:
    write(tmp_path, mine=GOOD)
    done = run(tmp_path, "mine.yaml", *mode, VLLM_SPYRE_TEST_MODEL_LIST="tiny-granit", HF_HUB_OFFLINE="1")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    message = done.stdout + done.stderr
    assert "VLLM_SPYRE_TEST_MODEL_LIST: no model is called 'tiny-granit'" in message
    assert "did you mean 'tiny-granite'" in message
    assert "Traceback" not in message
    assert "INTERNALERROR" not in message


def test_a_model_that_a_suite_names_wrongly_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD.replace("cases:", "parameters: {model: tiny-granit}\ncases:"))
    done = run(tmp_path, "mine.yaml", HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "did you mean 'tiny-granite'" in done.stdout
    assert "Traceback" not in done.stdout


def test_an_unwritable_report_is_refused_before_anything_runs(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD)
    done = run(tmp_path, "mine.yaml", "--cb-simulate", "--cb-html", str(tmp_path))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--cb-html" in done.stderr
    assert "cannot be written" in done.stderr
    assert "passed" not in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cb-results=x", "--cb-html=./x"], "--cb-html and --cb-results both write x, so one would overwrite"),
        (["--cb-results=x", "--junitxml=x"], "--cb-results and --junitxml both write "),
        (["--cb-markdown=x", "--cb-html=x"], "--cb-html and --cb-markdown both write x"),
        (["--alluredir=mine.yaml"], "--alluredir mine.yaml: cannot be written: "),
        (["--cb-html=nope/deep/x.html", "--cb-allow-flaky"], "--cb-allow-flaky needs --cb-retries"),
        (["--cb-html=mine.yaml/x.html"], "--cb-html mine.yaml/x.html: cannot be written: "),
        (["--cb-results=pipe"], "--cb-results pipe: cannot be written: not a regular file"),
        (["--cb-html=pipe"], "--cb-html pipe: cannot be written: not a regular file"),
        (["--cb-shard=1/1", "--cb-durations-from=pipe"], "--cb-durations-from pipe: not a regular file"),
    ],
)
def test_wrong_outputs_are_refused_before_anything_is_written(tmp_path: Path, options: list[str], message: str) -> None:
    write(tmp_path, mine=GOOD)
    os.mkfifo(tmp_path / "pipe")
    done = run(tmp_path, "mine.yaml", "--cb-simulate", *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "pipe"]


def test_a_golden_table_that_is_a_named_pipe_fails_its_test(tmp_path: Path) -> None:
    write(tmp_path, mine=GOLDEN)
    (tmp_path / "expectations" / "mine").mkdir(parents=True)
    os.mkfifo(tmp_path / "expectations" / "mine" / "needs-a-table.yaml")
    done = run(tmp_path, "mine.yaml", "--cb-simulate", "--cb-results", "r.jsonl")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "needs-a-table.yaml: cannot be read: not a regular file" in done.stdout


@pytest.mark.parametrize("option", ["--cb-results", "--cb-html", "--cb-markdown"])
def test_no_report_is_written_over_a_suite(tmp_path: Path, option: str) -> None:
    write(tmp_path, mine=GOOD)
    done = run(tmp_path, "mine.yaml", "--cb-simulate", option, "mine.yaml")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{option} mine.yaml: this would overwrite a suite; name another file" in done.stderr
    assert (tmp_path / "mine.yaml").read_text(encoding="utf-8") == GOOD


def test_a_case_whose_process_dies_is_reported_with_its_name(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD)
    (tmp_path / "conftest.py").write_text(
        "import os, signal\n"
        "from engine.core import EngineCore\n"
        "EngineCore.step = lambda self: os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    done = run(tmp_path, "mine.yaml", "--forked", "--cb-results", "results.jsonl")
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert "five-lines  [tiny-granite-eager]      mine.yaml:5" in done.stdout
    assert "request 0: 49 random tokens, max_tokens 3" in done.stdout
    assert "died of signal 11 (SIGSEGV)" in done.stdout
    assert '"failed": 1' in (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()[-1]


def test_a_failed_engine_is_reported_without_a_bless_command(tmp_path: Path) -> None:
    write(tmp_path, mine=GOLDEN)
    (tmp_path / "conftest.py").write_text(
        "from engine.scheduling.continuous.scheduler import ContinuousScheduler\n"
        "def decode(self):\n    raise ValueError('no such row')\n"
        "ContinuousScheduler._decode = decode\n"
    )
    done = run(tmp_path, "mine.yaml", "--cb-simulate")
    assert done.returncode == 1
    assert "the engine failed in step 2: ValueError: no such row (conftest.py:3 in decode)" in done.stdout
    assert "Traceback (most recent call last):" in done.stdout
    assert "--cb-bless" not in done.stdout


def test_inside_suites_names_and_requirements_must_be_right(tmp_path: Path) -> None:
    house = tmp_path / "suites"
    house.mkdir()
    (house / "requirements.yaml").write_text("requirements:\n  CB-RUN-01: {source: x, must: y}\n")
    write(house, mine=GOOD.replace("- id: five-lines", "- id: five-lines\n    requirement: CB-RUN-02"))
    assert "CB-RUN-02 does not exist — did you mean 'CB-RUN-01'?" in run(tmp_path, "suites", "--cb-simulate").stdout
    write(house, mine=GOOD.replace("suite: mine", "suite: yours"))
    assert "in suites/ the name of a suite is its path: mine" in run(tmp_path, "suites", "--cb-simulate").stdout


def test_simulation_says_why_it_skips_what_needs_tokens() -> None:
    done = run(ROOT, "--cb-simulate", "-q", "-rs", "suites/output", "-m", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "needs tokens, which the driver simulation does not offer" in done.stdout


def test_one_case_can_be_named_without_its_configuration() -> None:
    done = run(ROOT, "--cb-simulate", "-q", "suites/scheduler_steps/joining.yaml::new-sequence-joins-during-decode")
    assert "1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr


def test_reasons_of_skipped_tests_are_shown_at_the_end_for_any_width(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD.replace("cases:", "parameters: {tensor_parallel_size: [1000, 1001]}\ncases:"))
    for arguments in (["-svx"], ["-q"], ["-q", "-n", "1"]):
        done = run(tmp_path, *arguments, ".", COLUMNS="80")
        assert "skipped 1 test: tensor_parallel_size 1000 needs as many cores, but there are" in done.stdout
        assert "skipped 1 test: tensor_parallel_size 1001 needs as many cores, but there are" in done.stdout


def test_inductor_says_what_it_lacks_where_there_is_no_compiler(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD.replace("cases:", "parameters: {backend: inductor}\ncases:"))
    done = run(tmp_path, ".", PATH="/nowhere", CXX="")
    assert "skipped 1 test: backend inductor needs a C++ compiler, but g++, clang++, c++ and $CXX were" in done.stdout


def test_a_limit_that_nothing_can_hold_is_one_sentence_and_others_run(tmp_path: Path) -> None:
    huge = GOOD.replace("requests:", "limits: {max_num_seqs: 1000000000}\n    requests:")
    write(tmp_path, huge=huge, mine=GOOD)
    done = run(tmp_path, "--cb-simulate", ".")
    assert "1 failed, 1 passed" in done.stdout
    assert "huge.yaml:5:5: five-lines: max_num_seqs 1073741824 and max_model_len 512 need a KV cache of " in done.stdout
    hint = (
        "blocks are supported — the limits of the case are rounded up to those of an engine: "
        "max_model_len 512, max_num_seqs 1073741824; use smaller limits"
    )
    assert hint in done.stdout
    assert "Traceback" not in done.stdout


def test_a_request_that_no_batch_can_take_is_one_sentence(tmp_path: Path) -> None:
    """A request that needs more blocks than there are makes its case fail with one sentence before the run.

    With the length that the running batch has reached, the request would need fewer blocks. But it can never join.
    """
    text = GOOD.replace("max_tokens: 3}", "max_tokens: 3}, {prompt: {random_tokens: 65}, max_tokens: 64, join_step: 9}")
    write(tmp_path, mine=text.replace("requests:", "limits: {available_blocks: 2}\n    requests:"))
    done = run(tmp_path, "--cb-simulate", ".")
    assert done.returncode == 1
    expected = "request 1 (prompt 65, max_tokens 64) needs 3 blocks with nothing else running, but 2 are available"
    assert f"mine.yaml:5:5: five-lines: {expected} — raise available_blocks" in done.stdout
    assert "Traceback" not in done.stdout


def test_blessing_a_folder_removes_what_suites_left_behind(tmp_path: Path) -> None:
    suites = tmp_path / "suites" / "steps"
    suites.mkdir(parents=True)
    loose, kept, left = (tmp_path / name for name in ("loose.yaml", "suites/steps/kept.yaml", "suites/steps/left.yaml"))
    for path in (loose, kept, left):
        path.write_text(GOLDEN.replace("suite: mine", f"suite: {path.stem}"), encoding="utf-8")
    tables = [tmp_path / "expectations" / name / "needs-a-table.yaml" for name in ("loose", "steps/kept", "steps/left")]
    assert run(tmp_path, "--cb-simulate", "--cb-bless", "suites", "loose.yaml").returncode == 0
    reference = tmp_path / "expectations" / "references" / "some-model" / "steps" / "left" / "needs-a-table.json"
    reference.parent.mkdir(parents=True)
    reference.write_text("{}", encoding="utf-8")
    assert all(table.is_file() for table in tables)
    left.rename(suites / "renamed.yaml")
    for folder in ("suites", "suites/steps", "."):
        done = run(tmp_path, "--cb-simulate", "--cb-bless", folder)
        assert done.returncode == 0, done.stdout
        assert [table.is_file() for table in tables] == [True, True, False]
        assert not reference.exists()
        assert ("the suite suites/steps/left.yaml does not exist" in done.stdout) == (folder == "suites")
