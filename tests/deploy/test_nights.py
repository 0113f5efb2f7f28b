"""Run the Jobs of deploy/kubernetes as local processes, killed at random: the results equal those of one run."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest

from harness.report.reading import read_run
from tests.helpers.indexed_job import SLOW, Cluster, alike, waiting
from tests.helpers.pytest_runs import GOOD, WRONG

NIGHTS = 50 if os.environ.get("SPYRE_CB_NIGHTLY") else 3
SUITES = 5
SKIPPED = """\
suite: skipped
kind: output
markers: [cb]
cases:
  - id: skipped
    requests: [{prompt: {random_tokens: 4}, max_tokens: 2}]
    expect: {output: reference}
"""
KNOWN = "known_failures:\n  - {case: known/five-lines, reason: https://example.org/1 it is known}\n"


def suites(folder: Path) -> None:
    """Write suites for 2 engines, with tests that pass, tests that fail, skipped tests, and known failures."""
    (folder / "suites").mkdir()
    for i in range(SUITES):
        more = "".join(GOOD.split("cases:\n")[1].replace("five-lines", f"more-{j}") for j in range(3))
        large = GOOD.split("cases:\n")[1].replace("five-lines\n", "large\n    limits: {max_model_len: 1024}\n")
        (folder / "suites" / f"s{i}.yaml").write_text(GOOD.replace("suite: mine", f"suite: s{i}") + more + large)
    (folder / "suites" / "wrong.yaml").write_text(WRONG)
    (folder / "suites" / "known.yaml").write_text(WRONG.replace("suite: wrong", "suite: known"))
    (folder / "suites" / "skipped.yaml").write_text(SKIPPED)
    (folder / "suites" / "known-failures.yaml").write_text(KNOWN)
    (folder / "suites" / "conftest.py").write_text(SLOW)
    (folder / "pytest.ini").write_text("[pytest]\ncb_suites = suites\naddopts = -p no:schemathesis\n")


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the merged results file of a run of the same suites as one part that is not killed, for comparison."""
    folder = tmp_path_factory.mktemp("one")
    suites(folder)
    cluster = Cluster(folder, 1, Random(0))
    assert cluster.night() == 1, (folder / "log-merge").read_text()
    counts = (read_run(cluster.merged).footer or {})["counts"]
    assert counts == {"passed": 5 * SUITES, "failed": 1, "xfailed": 1, "skipped": 1}
    return cluster.merged


@pytest.mark.parametrize("seed", range(NIGHTS))
def test_a_night_with_killed_pods_has_the_results_of_one_run(tmp_path: Path, one_run: Path, seed: int) -> None:
    random = Random(seed)
    suites(tmp_path)
    parts = (1, 3, 7)[seed] if seed < 3 else random.randint(1, 7)
    isolation = "engine" if seed < 3 else random.choice(["none", "none", "none", "engine", "case"])
    cluster = Cluster(tmp_path, parts, random, kill=1.0 if seed < 3 else 0.7, isolation=isolation)
    assert cluster.night() == 1, (tmp_path / "log-merge").read_text()
    assert "killed" in {ended for _, ended in cluster.log} or seed >= 3
    assert alike(cluster.merged) == alike(one_run)
    for index in range(parts):
        header = read_run(cluster.results / "uid-spyre-cb-parts" / f"part-{index}.jsonl").header
        assert header["shard"] == {"part": index + 1, "of": parts}


def test_a_part_that_never_started_is_red_with_its_tests(tmp_path: Path, one_run: Path) -> None:
    suites(tmp_path)
    cluster = Cluster(tmp_path, 3, Random(0))
    assert cluster.night(never=[1]) == 1
    merged = read_run(cluster.merged)
    absent = merged.lacking
    assert {line["test"] for line in alike(one_run)[1:-1]} == {*absent, *(str(r["test"]) for r in merged.results)}
    page = (cluster.report / "page.html").read_text(encoding="utf-8")
    assert f"part 2 of 3 never reported: {len(absent)} tests without a result" in page
    assert all(f"<li><code>{test}</code>" in page for test in absent)
    junit = (cluster.report / "junit.xml").read_text(encoding="utf-8")
    assert junit.count("this test has no result: ") == 2 * len(absent)
    assert f"tests without a result\n\n- `{absent[0]}`" in (cluster.report / "summary.md").read_text(encoding="utf-8")


KILLER = """\
import os, signal
from engine.core import EngineCore
step = EngineCore.step
def killing(self):
    if "::kills-its-pod" in os.environ.get("PYTEST_CURRENT_TEST", ""):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self)
EngineCore.step = killing
"""


def test_a_test_that_kills_its_pod_each_time_is_the_only_one_without_a_result(tmp_path: Path) -> None:
    suites(tmp_path)
    (tmp_path / "suites" / "conftest.py").write_text(KILLER)
    (tmp_path / "suites" / "a.yaml").write_text(
        GOOD.replace("suite: mine", "suite: a").replace("five-lines", "kills-its-pod")
    )
    cluster = Cluster(tmp_path, 1, Random(0), lost=0.0, isolation="none")
    assert cluster.night() == 1
    assert cluster.log == [(0, "killed")] * 4 + [(0, "given up")]
    killer = "suites/a.yaml::kills-its-pod[tiny-granite-eager]"
    assert read_run(cluster.merged).lacking == (killer,)
    part = read_run(cluster.results / "uid-spyre-cb-parts" / "part-0.jsonl")
    assert part.header["killed"] == {killer: 3}
    assert part.running == (killer,)
    page = (cluster.report / "page.html").read_text(encoding="utf-8")
    assert f"was not finished (running: {killer}): 1 test without a result" in page


def test_a_part_whose_disk_was_full_is_run_again(tmp_path: Path, one_run: Path) -> None:
    suites(tmp_path)
    cluster = Cluster(tmp_path, 2, Random(0), lost=0.0, isolation="none")
    folder = cluster.results / "uid-spyre-cb-parts"
    folder.mkdir(parents=True)
    (folder / "part-1.jsonl.part").symlink_to("/dev/full")  # Results are first written to this file.
    assert cluster.night() == 1
    assert [ended for index, ended in cluster.log if index == 1] == ["3", "1"]
    assert alike(cluster.merged) == alike(one_run)


def test_a_night_of_which_nothing_has_reported_fails(tmp_path: Path) -> None:
    suites(tmp_path)
    assert Cluster(tmp_path, 2, Random(0)).night(never=[0, 1]) == 2


def test_a_night_without_failures_passes(tmp_path: Path) -> None:
    suites(tmp_path)
    (tmp_path / "suites" / "wrong.yaml").unlink()
    cluster = Cluster(tmp_path, 2, Random(0))
    assert cluster.night() == 0, (tmp_path / "log-merge").read_text()
    assert sorted(cluster.log) == [(0, "0"), (1, "0")]


def test_a_part_with_other_suites_is_refused_and_red(tmp_path: Path) -> None:
    suites(tmp_path)
    cluster = Cluster(tmp_path, 2, Random(0))
    cluster.index(0, Random(0))
    (tmp_path / "suites" / "s0.yaml").write_text(GOOD.replace("suite: mine", "suite: s0") + "# changed\n")
    cluster.index(1, Random(0))
    assert cluster.merge() == 2
    log = (tmp_path / "log-merge").read_text()
    assert re.search(r"part-0.jsonl and \S*part-1.jsonl are parts of different runs: the tests differ", log)


def test_the_merge_job_waits_until_the_parts_have_ended(tmp_path: Path) -> None:
    """``wait.sh`` polls a Job until its status is Complete or Failed. With FailureTarget the Job has not ended yet."""
    jobs, bin_ = tmp_path / "jobs", tmp_path / "bin"
    for folder in (jobs, bin_):
        folder.mkdir()
    answers = tmp_path / "answers"
    answers.write_text("error\n\nFailureTarget\nFailureTarget Failed\n")
    (bin_ / "kubectl").write_text(
        '#!/bin/sh\ncase "$*" in\n*uid*) printf the-uid; exit ;;\nesac\n'
        f'line=$(head -1 "{answers}"); sed -i 1d "{answers}"; [ "$line" != error ] || exit 1; echo "$line"\n'
    )
    (bin_ / "kubectl").chmod(0o755)
    script = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base" / "night" / "scripts" / "wait.sh"
    variables: dict[str, Any] = {"PATH": f"{bin_}:{os.environ['PATH']}", "JOBS": str(jobs), "WAIT_SECONDS": "0.01"}
    subprocess.run(["sh", str(script), "parts"], env={**os.environ, **variables}, check=True, timeout=30)
    assert (jobs / "parts").read_text() == "the-uid"
    assert answers.read_text() == ""


def test_the_results_of_one_and_of_three_jobs_are_one_page(tmp_path: Path) -> None:
    """Run ``merge.sh`` for two Jobs, one of which has written no results.

    The page has the results of the other Job. It reports the missing results, and the script fails.
    """
    suites(tmp_path)
    cluster = Cluster(tmp_path, 1, Random(0))
    assert cluster.night() == 1
    (tmp_path / "jobs" / "other").write_text("uid-other")
    shutil.rmtree(cluster.report)
    environment = {
        **cluster.environment({}),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        **{"RESULTS": str(cluster.results), "JOBS": str(tmp_path / "jobs"), "JOB_UID": "uid-merge"},
    }
    script = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base" / "night" / "scripts" / "merge.sh"
    done = subprocess.run(["sh", str(script), "spyre-cb-parts", "other"], env=environment, timeout=120)
    assert done.returncode == 1
    page = (cluster.report / "page.html").read_text(encoding="utf-8")
    assert "other.jsonl: this file is empty: its run ended before it could write anything" in page
    assert "1 of 27 tests that ran failed" in page


RCLONE = """\
#!/bin/sh
# copy FROM TO [--include PATTERN]: a folder in place of a bucket. 3: there is no such folder.
[ "$1" = copy ] && [ -d "$2" ] || exit 3
pattern='*'; [ "${4:-}" = --include ] && pattern=$5
mkdir -p "$3"; for file in "$2"/$pattern; do [ ! -e "$file" ] || cp -r "$file" "$3"; done
"""


def test_results_in_a_bucket_outlive_their_pod(tmp_path: Path) -> None:
    """Run ``push.sh`` and then ``fetch.sh``, with a fake ``rclone`` that copies to and from a local folder."""
    bucket, bin_, jobs = tmp_path / "bucket", tmp_path / "bin", tmp_path / "jobs"
    for folder in (bucket, bin_, jobs):
        folder.mkdir()
    (bin_ / "rclone").write_text(RCLONE)
    (bin_ / "rclone").chmod(0o755)
    scripts = Path(__file__).parents[2] / "deploy" / "kubernetes" / "components" / "s3" / "scripts"

    def started(script: str, pod: str, *arguments: str, uid: str = "uid") -> "subprocess.Popen[bytes]":
        its = {"RESULTS": str(tmp_path / pod), "JOBS": str(jobs), "RESULTS_REMOTE": str(bucket), "JOB_UID": uid}
        path = {"PATH": f"{bin_}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": "0", "PUSH_SECONDS": "60"}
        return subprocess.Popen(["sh", str(scripts / script), *arguments], env={**os.environ, **its, **path})

    assert started("fetch.sh", "first").wait(30) == 0, "there is nothing yet"
    push = started("push.sh", "first")
    assert waiting((bucket / "uid").is_dir, 30)
    (tmp_path / "first" / "uid" / "part-0.jsonl").write_text("one\n")
    push.terminate()  # as when the other containers have ended
    assert push.wait(30) == 0
    (bucket / "uid" / "part-1.jsonl").write_text("of another pod\n")

    assert started("fetch.sh", "second").wait(30) == 0
    assert [file.name for file in (tmp_path / "second" / "uid").iterdir()] == ["part-0.jsonl"]
    (jobs / "spyre-cb-parts").write_text("uid")
    assert started("fetch.sh", "merge", "--jobs", uid="uid-merge").wait(30) == 0
    assert len(list((tmp_path / "merge" / "uid").iterdir())) == 2
    report = tmp_path / "merge" / "report-uid-merge"
    report.mkdir()
    (report / "page.html").write_text("page")
    push = started("push.sh", "merge", uid="uid-merge")
    assert waiting((bucket / "report-uid-merge" / "page.html").exists, 30)
    push.terminate()
    assert push.wait(30) == 0
