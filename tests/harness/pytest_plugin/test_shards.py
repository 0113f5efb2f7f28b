"""Tests of shards: each test is in exactly one, always the same one, and shards take about the same time.

Tests of one engine are in the same shard where possible.
"""

import argparse
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.pytest_plugin.shards import Shard, cut, expected, main, read_durations, shard
from tests.helpers.pytest_runs import GOOD, run, write

SECONDS = st.lists(st.floats(0.001, 1000), max_size=60)


@given(SECONDS, st.integers(1, 12))
def test_every_test_is_in_exactly_one_part_and_parts_are_runs_of_neighbours(seconds: list[float], parts: int) -> None:
    chosen = cut(seconds, parts)
    assert len(chosen) == len(seconds)
    assert all(1 <= part <= parts for part in chosen)
    assert chosen == sorted(chosen)


@given(SECONDS.filter(bool), st.integers(1, 12))
def test_parts_differ_from_the_average_by_at_most_the_longest_test(seconds: list[float], parts: int) -> None:
    chosen = cut(seconds, parts)
    for part in range(1, parts + 1):
        length = sum(each for each, its in zip(seconds, chosen, strict=True) if its == part)
        assert abs(length - sum(seconds) / parts) <= max(seconds) + sum(seconds) * 1e-6


def test_tests_without_a_duration_count_with_the_median() -> None:
    assert expected(["a", "b", "c", "d"], {"a": 1.0, "b": 3.0, "d": 100.0, "x": 7.0}) == [1.0, 3.0, 3.0, 100.0]
    assert expected(["a", "b"], {}) == [1.0, 1.0]
    assert expected(["a"], {"a": 0.0}) == [0.001]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("6/5", "6/5: the part must be from 1 to 5"),
        ("0/5", "0/5: the part must be from 1 to 5"),
        ("1/0", "1/0: the number of parts must be at least 1"),
        ("2", "must be a part and the number of parts, such as 2/5, or auto, not '2'"),
        ("a/b", "must be a part"),
        ("-1/2", "must be a part"),
        ("²/5", "must be a part"),
    ],
)
def test_a_part_that_does_not_exist_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as error:
        shard(text)
    assert message in str(error.value)
    assert shard("2/5") == Shard(2, 5)


def test_durations_are_read_from_results_and_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "r.jsonl"
    lines = [
        {"header": 2},
        {"test": "b", "outcome": "passed", "seconds": 2.34567},
        {"test": "a", "outcome": "failed", "seconds": 0.0},
        {"footer": 1, "seconds": 9},
    ]
    results.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert read_durations(results) == {"b": 2.34567, "a": 0.0}
    assert main([str(results)]) == 0
    written = tmp_path / "durations.json"
    written.write_text(capsys.readouterr().out, encoding="utf-8")
    assert read_durations(written) == {"a": 0.001, "b": 2.35}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1", "this is neither a results file nor a JSON object with the seconds of each test"),
        ("[1, 2]", "this is neither a results file nor a JSON object with the seconds of each test"),
        ('{"a": 1, "b": NaN}', "the duration of b is not a number of seconds, but NaN"),
        ('{"a": "soon"}', 'the duration of a is not a number of seconds, but "soon"'),
        ('{"a": true}', "the duration of a is not a number of seconds, but true"),
        ('{"a": 1, "b": 2, "a": 3}', "a occurs twice, so its duration is not clear; keep one of them"),
        ('{"a": null}', "the duration of a is not a number of seconds, but null"),
        ('{"a": 1%s}' % ("0" * 400), "the duration of a is not a number of seconds, but 1000"),
    ],
)
def test_a_wrong_duration_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "durations.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        read_durations(file)


def suites(folder: Path) -> list[str]:
    """Write two suites, each with a case for a small and for a large engine. Return their files."""
    large = "  - id: large\n    limits: {max_model_len: 1024}\n" + GOOD.split("- id: five-lines\n")[1]
    write(folder, one=GOOD.replace("mine", "one") + large, two=GOOD.replace("mine", "two") + large)
    return [f"{file}.yaml::{case}[tiny-granite-eager]" for file in ("one", "two") for case in ("five-lines", "large")]


def part(folder: Path, *arguments: str) -> set[str]:
    done = run(folder, "-p", "no:schemathesis", "--cb-simulate", "-v", *arguments, ".")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"shard ./2: \d of 4 tests", done.stdout)
    found = re.findall(r"(\S+\.yaml::\S+) PASSED|PASSED (\S+\.yaml::\S+)", done.stdout)
    return {before or after for before, after in found}


@pytest.mark.parametrize("mode", [[], ["-n2"], ["--cb-isolation=engine"], ["--forked"]], ids=" ".join)
def test_parts_of_a_run_are_the_same_in_every_mode_and_keep_engines_together(tmp_path: Path, mode: list[str]) -> None:
    names = suites(tmp_path)
    first, second = (part(tmp_path, f"--cb-shard={i}/2", *mode) for i in (1, 2))
    assert first == {name for name in names if "five-lines" in name}
    assert second == {name for name in names if "large" in name}


def test_durations_move_the_cut(tmp_path: Path) -> None:
    names = suites(tmp_path)
    (tmp_path / "d.json").write_text(
        json.dumps({name: 9.0 if name.startswith("two.yaml::la") else 1.0 for name in names})
    )
    assert len(part(tmp_path, "--cb-shard=2/2", "--cb-durations-from=d.json")) == 1
    (tmp_path / "expectations").mkdir()
    (tmp_path / "d.json").rename(tmp_path / "expectations" / "durations.json")
    assert len(part(tmp_path, "--cb-shard=1/2", "--rootdir=.")) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cb-shard=3/2"], "argument --cb-shard: 3/2: the part must be from 1 to 2"),
        (["--cb-shard=1/2", "--cb-durations-from=no.json"], "--cb-durations-from no.json: No such file or directory"),
        (
            ["--cb-shard=1/2", "--cb-durations-from=one.yaml"],
            "--cb-durations-from one.yaml: this is neither a results file nor",
        ),
        (
            ["--cb-shard=1/2", "--cb-durations-from=below.json"],
            "--cb-durations-from below.json: the duration of one.yaml::a is not a number of seconds, but -1",
        ),
        (["--cb-durations-from=no.json"], "--cb-durations-from needs --cb-shard I/N"),
    ],
)
def test_what_cannot_be_cut_is_one_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    suites(tmp_path)
    (tmp_path / "below.json").write_text('{"one.yaml::a": -1}', encoding="utf-8")
    done = run(tmp_path, "--cb-simulate", *arguments, ".")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
