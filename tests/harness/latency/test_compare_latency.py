"""Tests of the comparison of latencies between two sets of runs.

Cases that became slower are reported. Noise, and runs that are slower as a whole, are not.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.compare.latency import LatencyError, compare_latency
from harness.compare.results import Run, read_results
from harness.report.reading import FORMAT
from harness.runs.plain_decodes import as_data
from harness.runs.runner import without_plain_decodes
from tests.helpers.harness import a_request, simulate

SEEN = simulate(a_request(60, 20), a_request(10, 12, join_step=2))
LATER = simulate(a_request(60, 20), a_request(10, 12, join_step=2), max_num_seqs=1)
SIZES = [[60, 20, 0], [10, 12, 2]]
CASES = 12


def record(case: int, factor: float, draw: random.Random, seen: Any = SEEN) -> dict[str, Any]:
    """Return the result of a case whose steps take about 10 ms times ``factor``, with noise of 3 %."""
    seconds = [0.0, *(0.01 * factor * draw.lognormvariate(0, 0.03) for _ in seen.run.steps[1:])]
    data = {
        "steps": [as_data(row) for row in without_plain_decodes(seen.run.steps)],
        "sizes": SIZES,
        "step_seconds": seconds,
    }
    name = {"suite": "s", "case": f"case-{case}", "configuration": "tiny", "test": f"s.yaml::case-{case}[tiny]"}
    return {**name, "outcome": "passed", "verdicts": [{"passed": True, "headline": "", "data": data}]}


def write(folder: Path, seed: int, *, runs: int = 5, slow: float = 1.0, seen: Any = SEEN) -> Path:
    """Write the results of several runs in which case 3 is slower by the factor ``slow``, and return their folder.

    All durations of a run are multiplied by one random factor from 1 to 1.2, as on a busy machine.
    """
    draw = random.Random(seed)
    folder.mkdir()
    for number in range(runs):
        busy = draw.uniform(1.0, 1.2)
        records = [record(case, busy * (slow if case == 3 else 1.0), draw, seen) for case in range(CASES)]
        lines = [{"header": FORMAT, "engine": "e"}, *records, {"footer": 1, "exitstatus": 0, "seconds": 1.0}]
        (folder / f"{number}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


def runs_of(folder: Path) -> list[Run]:
    return [read_results(file) for file in sorted(folder.glob("*.jsonl"))]


def test_a_slower_case_is_named_and_no_other(tmp_path: Path) -> None:
    before, after = write(tmp_path / "a", 1), write(tmp_path / "b", 2, slow=2.0)
    found = compare_latency(runs_of(before), runs_of(after))
    # The mean over all cases of the configuration, with an empty name, is larger, too.
    cases = [each for each in found.slower if each.key[1]]
    assert {each.key[1] for each in cases} == {"case-3"}
    assert {each.metric for each in cases} == {"first_token", "between", "between_decodes"}
    assert all(1.6 < each.ratio < 2.4 and each.p < 0.05 for each in cases)
    assert found.later == ()


def test_noise_is_not_named(tmp_path: Path) -> None:
    alarms = 0
    for seed in range(20):
        before, after = write(tmp_path / f"a{seed}", seed, runs=4), write(tmp_path / f"b{seed}", seed + 100, runs=4)
        alarms += bool(compare_latency(runs_of(before), runs_of(after)).slower)
    assert alarms <= 3, "1 in 20 is expected at a level of 5 %"


def test_more_steps_are_named_without_a_test(tmp_path: Path) -> None:
    before, after = write(tmp_path / "a", 1), write(tmp_path / "b", 2, seen=LATER)
    found = compare_latency(runs_of(before), runs_of(after))
    assert {(each.request, each.metric) for each in found.later} >= {(1, "queue"), (1, "first_token")}


def test_too_few_runs(tmp_path: Path) -> None:
    before, after = write(tmp_path / "a", 1, runs=3), write(tmp_path / "b", 2, runs=5)
    with pytest.raises(
        LatencyError, match="3 and 5 runs are too few to tell a change from noise: at least 4 runs in each"
    ):
        compare_latency(runs_of(before), runs_of(after))


def test_runs_that_were_not_timed(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", 1)
    for file in folder.glob("*.jsonl"):
        file.write_text(file.read_text().replace("step_seconds", "other"))
    with pytest.raises(LatencyError, match="no case has step times in every run"):
        compare_latency(runs_of(folder), runs_of(folder))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = write(tmp_path / "a", 1), write(tmp_path / "b", 2, slow=2.0)
    assert main(["compare", "--latency", str(before), str(before)]) == 0
    assert "nothing got slower beyond the noise" in capsys.readouterr().out
    assert main(["compare", "--latency", str(before), str(after)]) == 1
    assert "  s case-3 [tiny]: time to first token 1" in capsys.readouterr().out
    assert main(["compare", "--latency", "--json", str(before), str(after)]) == 1
    assert ["s", "case-3", "tiny"] in [each["key"] for each in json.loads(capsys.readouterr().out)["slower"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "missing"], "missing: is not a folder; --latency compares folders with results of repeated runs"),
        (["a", "a", "--html", "page.html"], "--html is not available with --latency"),
        (["a", "empty"], "5 and 0 runs are too few"),
    ],
)
def test_mistakes(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "a", 1)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "--latency", *arguments]) == 2
    assert message in capsys.readouterr().err
