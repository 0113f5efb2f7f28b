"""Tests of ``--cb-resume``: in every mode, a run that was killed continues with the tests that have no result.

A results file of other suites or options is refused.
"""

import json
import shutil
from pathlib import Path

import pytest

from harness.report.reading import read_run
from tests.helpers.killed_runs import OUTCOMES, killed, lines_of, outcomes, ran, suites_with_a_hang
from tests.helpers.pytest_runs import GOLDEN, simulated, write

MODES = [
    [],
    ["-n2"],
    ["--cb-isolation=engine"],
    ["--cb-isolation=engine", "--cb-start-processes=spawn"],
    ["--cb-isolation=engine", "-n2"],
    ["--forked"],
    ["--forked", "-n2"],
]
RESUME = ["--cb-results", "r.jsonl", "--cb-resume"]


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
def test_a_run_that_was_killed_runs_only_what_has_no_result(tmp_path: Path, mode: list[str]) -> None:
    suites_with_a_hang(tmp_path)
    killed(tmp_path, *mode, *RESUME, ".")
    results = tmp_path / "r.jsonl"
    before = read_run(results)
    kept = outcomes(before.results)
    assert "hangs" not in kept
    assert {"first", "fails"} <= kept.keys()
    assert any("hangs" in test for test in before.running)
    old = results.read_text(encoding="utf-8").splitlines()[1 : 1 + len(kept)]
    ran(tmp_path)
    with results.open("a", encoding="utf-8") as file:
        file.write('{"test": "0-first.yaml::first[tiny-gr')  # a line that was written when the process was killed

    (tmp_path / "again").touch()
    done = simulated(tmp_path, *mode, *RESUME, "--cb-html", "page.html", ".")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert f"resumed: {len(kept)} tests of r.jsonl are kept, and not run again (" in done.stdout
    assert (
        "hangs[tiny-granite-eager] runs again, after the other tests, because the run was killed 1 time while it"
        in done.stdout
    )
    assert ran(tmp_path) == OUTCOMES.keys() - kept.keys()
    header, *entries, footer = lines_of(results)
    assert outcomes(entries) == OUTCOMES
    assert len(entries) == len(OUTCOMES)
    assert results.read_text(encoding="utf-8").splitlines()[1 : 1 + len(kept)] == old
    assert header["began"] == before.header["began"]
    assert header["killed"] == {"2-hangs.yaml::hangs[tiny-granite-eager]": 1}
    assert (footer["counts"], footer["exitstatus"]) == ({"passed": 4, "failed": 1}, 1)
    assert "1 of 5 tests that ran failed, 4 passed" in (tmp_path / "page.html").read_text(encoding="utf-8")

    done = simulated(tmp_path, *mode, *RESUME, ".")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, "a failure that is kept fails the run"
    assert not (tmp_path / "ran").exists()
    assert outcomes(lines_of(results)) == OUTCOMES


def test_a_run_of_what_has_passed_passes_and_one_without_a_file_runs_everything(tmp_path: Path) -> None:
    suites_with_a_hang(tmp_path)
    (tmp_path / "again").touch()
    for count in (4, 0):
        done = simulated(tmp_path, *RESUME, "--deselect", "1-fails.yaml", ".")
        assert done.returncode == pytest.ExitCode.OK, done.stdout
        assert len(ran(tmp_path)) == count if count else not (tmp_path / "ran").exists()
    (tmp_path / "r.jsonl").write_bytes(b"")
    assert simulated(tmp_path, *RESUME, "--deselect", "1-fails.yaml", ".").returncode == pytest.ExitCode.OK
    assert len(ran(tmp_path)) == 4


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """Return a folder with the suites of helpers/killed_runs.py, and with the results of a finished part 1 of 2."""
    suites_with_a_hang(tmp_path)
    (tmp_path / "again").touch()
    simulated(tmp_path, *RESUME, "--cb-shard=1/2", ".")
    assert outcomes(lines_of(tmp_path / "r.jsonl")) == {"first": "passed", "fails": "failed"}
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cb-shard=1/2", "0-first.yaml"], "the tests differ: only one of the two runs has 1-fails.yaml::fails"),
        (
            ["--cb-shard=1/2", "-n2", "0-first.yaml"],
            "the tests differ: only one of the two runs has 1-fails.yaml::fails",
        ),
        (["--cb-shard=2/2", "."], "this run is part 2 of 2, and the file is of part 1 of 2"),
        (["."], "this run is a run without --cb-shard, and the file is of part 1 of 2"),
        (["--cb-shard=1/2", "--cb-policy=golden", "."], 'the options differ: {"simulate": "True"}, and {"simulate"'),
        (["--cb-shard=1/2", "--cb-driver=simulation", "."], 'the options differ: {"simulate": "True"}, and {"driver"'),
        (["--cb-shard=1/2", "--cb-durations-from=d.json", "."], "the same tests are divided into other parts"),
    ],
)
def test_the_file_of_another_run_is_refused_and_left(ended: Path, arguments: list[str], message: str) -> None:
    names = [f"{i}-{name}.yaml::{name}[tiny-granite-eager]" for i, name in enumerate(OUTCOMES)]
    (ended / "d.json").write_text(json.dumps({**dict.fromkeys(names, 1.0), names[0]: 90.0}))
    old = (ended / "r.jsonl").read_bytes()
    done = simulated(ended, *RESUME, *arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert f"ERROR: --cb-resume: r.jsonl has the results of another run: {message}" in done.stdout + done.stderr
    assert "name another file, or leave out --cb-resume to run all tests again" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (ended / "r.jsonl").read_bytes() == old


def test_a_suite_with_other_limits_is_another_run(ended: Path) -> None:
    suite = ended / "4-last.yaml"
    text = suite.read_text(encoding="utf-8")
    suite.write_text(text.replace("    requests:", "    limits: {max_num_seqs: 2}\n    requests:"), encoding="utf-8")
    done = simulated(ended, *RESUME, "--cb-shard=1/2", ".")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "has the results of another run: 4-last.yaml was changed between the two runs" in done.stdout + done.stderr


@pytest.fixture
def passed(tmp_path: Path) -> Path:
    """Return a folder with a case, its golden table, and the results file of a run in which the case passed."""
    write(tmp_path, mine=GOLDEN)
    assert simulated(tmp_path, "--cb-bless", ".").returncode == pytest.ExitCode.OK
    assert simulated(tmp_path, "--cb-results", "r.jsonl", ".").returncode == pytest.ExitCode.OK
    return tmp_path


def test_another_golden_table_is_another_run(passed: Path) -> None:
    (table,) = (passed / "expectations").rglob("*.yaml")
    table.write_text(table.read_text(encoding="utf-8") + "# read again\n", encoding="utf-8")
    done = simulated(passed, *RESUME, ".")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    message = (
        "has the results of another run: mine.yaml was changed between the two runs, or a golden table of its cases"
    )
    assert message in done.stdout + done.stderr


def test_another_list_of_known_failures_is_another_run(passed: Path) -> None:
    entry = "known_failures:\n- {case: mine/needs-a-table, reason: https://example.com/1 is a try, strict: false}\n"
    (passed / "known-failures.yaml").write_text(entry, encoding="utf-8")
    done = simulated(passed, *RESUME, ".")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert (
        "has the results of another run: known-failures.yaml was changed between the two runs"
        in done.stdout + done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cb-resume"], "--cb-resume needs --cb-results FILE, the results file of the run to continue"),
        ([*RESUME, "--collect-only"], "--cb-resume can't be combined with --collect-only"),
        ([*RESUME, "--cb-bless"], "--cb-resume can't be combined with --cb-bless"),
        (["--cb-resume", "--cb-results=/dev/null"], "--cb-resume: /dev/null is not a regular file"),
        (["--cb-resume", "--cb-results=old.jsonl"], "--cb-resume: old.jsonl: this file has results format 1, but"),
        (["--cb-resume", "--cb-results=x.txt"], "--cb-resume: x.txt:1: this line is not JSON. Is this a results file"),
    ],
)
def test_what_cannot_be_resumed_is_one_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    suites_with_a_hang(tmp_path)
    (tmp_path / "old.jsonl").write_text('{"header": 1}\n')
    (tmp_path / "x.txt").write_text("mine\n")
    done = simulated(tmp_path, *arguments, ".")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (tmp_path / "x.txt").read_text() == "mine\n"


def test_a_full_disk_leaves_what_was_there(ended: Path) -> None:
    """The results file must stay unchanged if the new one cannot be written, because the disk is full.

    The new file is first written to ``r.jsonl.part``, which is a link to /dev/full here.
    """
    old = (ended / "r.jsonl").read_bytes()
    (ended / "r.jsonl.part").symlink_to("/dev/full")
    done = simulated(ended, *RESUME, "--cb-shard=1/2", ".")
    assert done.returncode == pytest.ExitCode.INTERNAL_ERROR
    assert "ERROR: --cb-results r.jsonl: cannot be written: No space left on device" in done.stdout
    assert (ended / "r.jsonl").read_bytes() == old


def test_the_header_has_the_plan_of_all_parts(ended: Path) -> None:
    header = lines_of(ended / "r.jsonl")[0]
    assert header["shard"] == {"part": 1, "of": 2}
    assert [sorted(part) for part in header["plan"]] == [
        ["0-first.yaml", "1-fails.yaml"],
        ["2-hangs.yaml", "3-other.yaml", "4-last.yaml"],
    ]
    assert header["plan"][0]["0-first.yaml"] == ["first[tiny-granite-eager]"]
    assert len(header["suites"]) == 5
    assert header["options"] == {"simulate": "True"}


def test_a_pipe_gets_one_header_with_the_plan(tmp_path: Path) -> None:
    suites_with_a_hang(tmp_path)
    done = simulated(tmp_path, "--cb-results=/dev/stderr", "0-first.yaml")
    header, result, footer = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert header["plan"] == [{"0-first.yaml": ["first[tiny-granite-eager]"]}]
    assert (result["outcome"], footer["footer"]) == ("passed", 1)


@pytest.mark.parametrize("mode", [[], ["-n2"]], ids=" ".join)
def test_a_part_without_tests_passes(tmp_path: Path, mode: list[str]) -> None:
    suites_with_a_hang(tmp_path)
    arguments = ["--cb-shard=3/3", "--cb-results=r.jsonl", "0-first.yaml"]
    done = simulated(tmp_path, *mode, *arguments)
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    assert "shard 3/3: 0 of 1 test" in done.stdout
    assert simulated(tmp_path, *mode, *arguments, "-k", "none").returncode == pytest.ExitCode.NO_TESTS_COLLECTED


def test_parts_do_not_depend_on_what_failed_last_on_this_machine(tmp_path: Path) -> None:
    suites_with_a_hang(tmp_path)
    plans = []
    for failed in ([], ["4-last.yaml::last[tiny-granite-eager]"]):
        cache = tmp_path / "cache" / "v" / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        (cache / "lastfailed").write_text(json.dumps(dict.fromkeys(failed, True)))
        options = ["-p", "cacheprovider", "-o", "cache_dir=cache", "--cb-isolation=engine", "--cb-results=r.jsonl"]
        simulated(tmp_path, *options, "--cb-shard=2/2", "-k", "not hangs", ".")
        plans.append(lines_of(tmp_path / "r.jsonl")[0]["plan"])
    assert plans[0] == plans[1]
