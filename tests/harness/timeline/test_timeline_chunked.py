"""Tests of time-lines of the chunked scheduler, as text and as SVG.

They show chunks, found and shared blocks, pauses, and the tkv of each request.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings

from harness.checks.steps import steps_as_data
from harness.cli import main
from harness.drivers.reference import SimulationDriver
from harness.runs.plain_decodes import as_row, from_data, shorten
from harness.runs.runner import run_workload, without_plain_decodes
from harness.schedulers.chunked.workloads import ChunkedWorkload, chunked_workloads
from harness.schedulers.sharing import NUMBERS, SharingRequest
from harness.suites.prompts import simulated_spec
from harness.suites.schema import Request
from harness.timeline import (
    Bar,
    Shared,
    Size,
    Stretch,
    TimeLine,
    as_svg,
    as_text,
    legend_of,
    of_rows,
    tables_of,
    time_line,
    with_tables,
)
from harness.timeline.apart import steps_apart
from harness.timeline.spoken import described
from harness.types import ChunkingSetup, EngineSetup, Run, SchedulingLimits
from tests.helpers.harness import doctored
from tests.helpers.paths import SUITES

CHUNKING = ChunkingSetup()
SUITE = SUITES / "scheduler_steps" / "chunked_prefix.yaml"
TWINS = (
    Request.model_validate({"prompt": {"random_tokens": 200, "seed": "a"}, "max_tokens": 4}),
    Request.model_validate({"prompt": {"random_tokens": 200, "seed": "a"}, "max_tokens": 6}),
)
SIZES = [Size(200, 4), Size(200, 6)]


def ran(requests: tuple[Request, ...], limits: SchedulingLimits) -> Run:
    session = SimulationDriver().open(EngineSetup("tiny-granite", "eager", 1, 512, 4, None, "chunked", CHUNKING))
    session.reset(limits)
    specs = [simulated_spec(request, "run", number, NUMBERS) for number, request in enumerate(requests)]
    return run_workload(session, specs, requests)


@pytest.fixture(scope="module")
def twins() -> Run:
    """Return a run of two requests with the same prompt.

    Request 1 finds two blocks in the prefix cache, computes one of them again, and shares three blocks with request 0.
    """
    return ran(TWINS, SchedulingLimits(512, 4, 35, 2048))


@pytest.fixture(scope="module")
def paused() -> Run:
    """Return a run of two requests that cannot decode together, so that one of them is paused in each step."""
    requests = tuple(Request.model_validate({"prompt": {"random_tokens": 40}, "max_tokens": 4}) for _ in range(2))
    return ran(requests, SchedulingLimits(512, 4, 35, 64))


def stretch_at(line: TimeLine, step: int) -> Stretch:
    stretch = line.at(step)
    assert stretch is not None
    return stretch


def line_of(run: Run, sizes: list[Size]) -> TimeLine:
    return time_line(run.steps, sizes, asdict(CHUNKING))


def test_bars_are_what_the_rules_say_a_request_holds(twins: Run) -> None:
    line = line_of(twins, SIZES)
    # 200 tokens in chunks of 128: no padding, the second chunk has 72. The first two blocks of 1 are one whole chunk.
    assert stretch_at(line, 1).bars == {0: Bar(0, 128, 0, 0, 128)}
    assert (stretch_at(line, 1).prefilled, stretch_at(line, 1).chunk) == (0, (1, 2))
    assert stretch_at(line, 2).bars == {0: Bar(0, 200, 0, 56, 0)}
    last = stretch_at(line, 4)
    assert (last.prefilled, last.chunk) == (1, (2, 2))
    assert last.bars[1] == Bar(0, 72, 0, 56, 0, 128)
    assert last.shared == {0: (Shared(0, 2, (1,)),), 1: (Shared(0, 2, (0,)),)}
    assert stretch_at(line, 8).shared == {}


ABORTED_WITH_ITS_CHUNK = ChunkedWorkload(
    SchedulingLimits(512, 2, 35, 2048),
    ChunkingSetup(chunk_size=64),
    (SharingRequest(255, 4), SharingRequest(65, 1, abort_step=6), SharingRequest(1, 1, 1)),
)
"""Request 1 is aborted in the step of its first chunk, so this step is a prefill of a request that never runs."""


@settings(max_examples=40, deadline=None)
@given(chunked_workloads())
@example(ABORTED_WITH_ITS_CHUNK)
def test_what_is_drawn_fills_what_the_engine_says_it_holds(workload: ChunkedWorkload) -> None:
    session = SimulationDriver().open(workload.setup("tiny-granite"))
    session.reset(workload.limits)
    specs = workload.specs(None)
    run = run_workload(session, specs, workload.as_requests())
    sizes = [Size(len(spec.prompt_token_ids), spec.max_tokens, 0) for spec in specs]
    line = time_line(run.steps, sizes, asdict(workload.chunking))
    for step in run.steps:
        stretch = stretch_at(line, step.step)
        alive = {*step.running, *(step.paused or ())}
        bars = {i: bar for i, bar in stretch.bars_at(step.step).items() if i in alive}
        assert sum(bar.unused for bar in bars.values()) == (step.reserved or 0) * 64
        assert not any(bar.held % 64 for bar in bars.values())
        # The block ids of a request that is aborted in its prefill are never observed.
        if not step.finished and all(request.abort_step is None for request in workload.requests):
            assert sum(bar.held for bar in bars.values()) - again(stretch) == (step.used or 0) * 64
        tkvs = [bar.top - bar.right_padding for i, bar in stretch.bars_at(step.step).items() if i in stretch.decodes]
        assert not tkvs or max(tkvs) == step.tkv
    short = time_line(with_tables(of_rows(shorten(map(as_row, run.steps))), tables_of(run.steps)), sizes)
    assert short.last_step == line.last_step
    assert all(len(text) <= 60 for text in as_text(line, 60))
    ElementTree.fromstring(as_svg(line))


def again(stretch: Stretch) -> int:
    """Return the number of tokens in shared blocks that a time-line draws for more than one sequence.

    A block counts once for each sequence after the first.
    """
    owners: dict[tuple[int, tuple[int, ...]], int] = {}
    for sequence, runs in stretch.shared.items():
        for first, last, others in runs:
            for place in range(first, last + 1):
                owners[place, tuple(sorted((sequence, *others)))] = len(others)
    return 64 * sum(owners.values())


def test_results_are_read_as_they_are_written(twins: Run) -> None:
    expected = without_plain_decodes(twins.steps)
    data = json.loads(json.dumps({"steps": steps_as_data(expected), "tables": tables_of(expected)}))
    line = time_line(with_tables(map(from_data, data["steps"]), data["tables"]), SIZES, asdict(CHUNKING))
    assert line == line_of(twins, SIZES)


def test_text_draws_chunks_pauses_and_shared_blocks(twins: Run, paused: Run) -> None:
    assert as_text(line_of(twins, SIZES)) == [
        "     step 0 2 4 6  9",
        "          sccdcdddddi",
        "tkv ≤ 205  ▇▇▇▇▇▇▇▇█",
        " 0: 200+4 ·cC4-4×",
        " 1: 200+6 ····C4444×",
        "",
        "after step 5, the decode of 1, 0: tkv 202",
        "   1 |A▚▚▚▚▚▚▚|B▚▚▚▚▚▚▚|C▓▓▓▓▓▓▓|▓█▒▒▒▒▒▒|",
        "   0 |A▓▓▓▓▓▓▓|B▓▓▓▓▓▓▓|C▓▓▓▓▓▓▓|▓█▒▒▒▒▒▒|",
        "",
    ]
    line = line_of(paused, [Size(40, 4), Size(40, 4)])
    assert "=" in as_text(line)[3]
    assert any("paused" in text for text in legend_of(line))


def test_svg_says_who_shares_what_and_who_is_paused(twins: Run, paused: Run) -> None:
    root = ElementTree.fromstring(as_svg(line_of(twins, SIZES)))
    assert [e.text for e in root.iter() if e.get("class") == "who"] == ["A", "A"]
    assert "A with 1" in "".join(root.itertext())
    titles = ["".join(e.itertext()) for e in root.iter() if e.get("class") == "hover"]
    assert titles[4] == (
        "step 4: chunk 2 of 2 of 1, tkv 200, 5 blocks used, 0 reserved\n"
        "1: found in the cache 128, prompt 72, right padding 56, blocks 0–2 shared with 0\n"
        "0: prompt 200, generated 1, right padding 55, blocks 0–2 shared with 1"
    )
    assert "1: tkv 201, found in the cache 128, prompt 72, generated 1, right padding 55" in titles[5]
    line = line_of(paused, [Size(40, 4), Size(40, 4)])
    picture = as_svg(line, alone=False)
    assert picture.count('class="paused"') == picture.count('class="pales"') > 1
    assert any("1: paused, " in text for stretch in line.stretches for text in described(stretch, own_tkv=True))


def test_where_two_runs_differ_the_expected_one_is_overlaid(paused: Run) -> None:
    sizes = [Size(40, 4), Size(40, 4)]
    line, pausing = line_of(paused, sizes), next(step for step in paused.steps if step.paused)
    wrong = line_of(doctored(paused, pausing.step, paused=()), sizes)
    assert list(steps_apart(wrong, line)) == [(pausing.step, pausing.step)]
    assert 'class="wanted"' in as_svg(wrong, line)
    assert list(steps_apart(line, line)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"running": (5, 1, 0)},
        {"outputs": (7,)},
        {"finished": (0, 1, 9)},
        {"hits": ((1, 99),)},
        {"reserved": 99},
        {"paused": (0, 3)},
        {"kind": "prefill"},
        {"block_tables": ((1, 1), (1, 1))},
    ],
)
def test_a_run_that_no_engine_should_show_is_drawn_all_the_same(twins: Run, changes: dict[str, Any]) -> None:
    for number in (1, 4, 5):
        line = line_of(doctored(twins, number, **changes), SIZES)
        ElementTree.fromstring(as_svg(line))
        as_text(line)
        assert all(list(described(stretch, own_tkv=True)) for stretch in line.stretches)


def test_trace_draws_it_and_its_json_can_be_traced_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    only = ["--simulate", "--only", "twins-in-one-batch"]
    assert main(["trace", str(SUITE), *only, "--plot", "--svg", str(tmp_path)]) == 0
    drawn = capsys.readouterr().out
    assert " 1: 200+6 ····C4444×" in drawn
    assert "|A a block that is shared with other requests" in drawn
    assert (tmp_path / "twins-in-one-batch.svg").read_text(encoding="utf-8").count('class="shared"') == 3
    once, again_ = tmp_path / "once.json", tmp_path / "again.json"
    assert main(["trace", str(SUITE), "--simulate", "-o", str(once)]) == 0
    assert main(["trace", str(once), "--simulate", "-o", str(again_)]) == 0
    first = json.loads(once.read_text(encoding="utf-8"))
    assert json.loads(again_.read_text(encoding="utf-8")) == first
    assert any(item["tables"] for item in first)
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps([first[0] | {"chunking": {"chunk_size": 100}}]), encoding="utf-8")
    assert main(["trace", str(wrong), "--simulate"]) != 0
    assert "chunk_size 100 is not a multiple of 64" in capsys.readouterr().err
