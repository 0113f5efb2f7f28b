"""Tests of time-lines of sequences, which are drawn from full and short step tables, as text and as SVG."""

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from harness.drivers.reference import SimulationDriver
from harness.runs.plain_decodes import as_data, as_row, from_data, shorten
from harness.runs.runner import run_workload, without_plain_decodes
from harness.schedulers.continuous.workloads import Workload, workloads
from harness.timeline import Bar, Size, TimeLine, as_svg, as_text, of_rows, time_line
from harness.timeline.apart import steps_apart
from harness.timeline.spoken import described
from harness.types import EngineSetup, Run
from tests.helpers.harness import Simulated, a_request, doctored, simulate, two_that_overlap

SESSION = SimulationDriver().open(EngineSetup("none", "eager", 1, 512, 4))


def sizes(simulated: Simulated) -> list[Size]:
    pairs = zip(simulated.specs, simulated.requests, strict=True)
    return [Size(len(spec.prompt_token_ids), spec.max_tokens, request.join_step) for spec, request in pairs]


def line_of(simulated: Simulated, run: Run | None = None) -> TimeLine:
    return time_line(of_rows(map(as_row, (run or simulated.run).steps)), sizes(simulated))


def bars(line: TimeLine, step: int) -> dict[int, Bar]:
    stretch = line.at(step)
    assert stretch is not None
    return stretch.bars_at(step)


def test_bars_are_what_the_rules_say_a_sequence_holds() -> None:
    line = line_of(two_that_overlap())
    # Prompts of 60 and 10, max_tokens 5 and 3; 1 joins at tkv 65, so it has 55 columns of padding.
    assert bars(line, 1) == {0: Bar(4, 60, 0, 0, 64)}
    assert bars(line, 2) == {0: Bar(4, 60, 1, 63, 0)}
    assert bars(line, 3) == {1: Bar(55, 10, 0, 63, 0), 0: Bar(4, 60, 1, 63, 0)}
    assert bars(line, 5) == {1: Bar(55, 10, 2, 61, 0), 0: Bar(4, 60, 3, 61, 0)}
    assert bars(line, 7) == {}


@settings(max_examples=60, deadline=None)
@given(workloads())
def test_what_is_drawn_fills_what_the_engine_says_it_holds(workload: Workload) -> None:
    SESSION.reset(workload.limits)
    run = run_workload(SESSION, workload.specs(None), workload.requests)
    planned = [Size(request.prompt_length, request.max_tokens, request.join_step) for request in workload.requests]
    # Rows of tables do not have the blocks of sequences.
    steps = [step._replace(block_tables=()) for step in run.steps]
    line = time_line(steps, planned)
    for step in run.steps:
        held = [bar for i, bar in bars(line, step.step).items()]
        if set(bars(line, step.step)) >= set(step.running) and (step.outputs or not step.used):
            assert sum(bar.held for bar in held) == (step.used or 0) * 64
            assert sum(bar.held + bar.unused for bar in held) == (step.reserved or 0) * 64
    # The short forms give the same.
    assert time_line(without_plain_decodes(steps), planned) == line
    assert time_line(of_rows(shorten(map(as_row, run.steps))), planned) == line
    assert list(steps_apart(line, line)) == []
    assert all(len(text) <= 60 for text in as_text(line, 60))
    ElementTree.fromstring(as_svg(line))


def test_results_are_read_as_they_are_written() -> None:
    simulated = two_that_overlap()
    lists = json.loads(json.dumps([as_data(step) for step in simulated.run.steps]))
    assert time_line(map(from_data, lists), sizes(simulated)) == line_of(simulated)


def test_text_draws_who_waits_is_prefilled_decodes_and_ends() -> None:
    assert as_text(line_of(two_that_overlap())) == [
        "    step 0 2 4 6",
        "         sPdPdddi",
        "tkv ≤ 68  ▇▇▇▇▇█",
        " 0: 60+5 ·P2222×",
        " 1: 10+3   ·P2×",
        "",
        "after step 3, the prefill of 1: tkv 65",
        "   1 |░░░░░░▓▓|▓▒▒▒▒▒▒▒|",
        "   0 |▓▓▓▓▓▓▓▓|█▒▒▒▒▒▒▒|",
        "",
    ]


def test_a_long_run_of_decodes_is_shortened_and_a_long_line_goes_on_below() -> None:
    long = as_text(line_of(simulate(a_request(10, 200))), 60)
    assert "…" in long[1]
    assert max(map(len, long)) <= 60
    many = as_text(line_of(simulate(*[a_request(5, 2, join_step=3 * i) for i in range(30)])), 60)
    assert sum(text.strip().startswith("step") for text in many) > 1


def test_svg_is_one_picture_with_titles_for_each_stretch() -> None:
    line = line_of(two_that_overlap())
    root = ElementTree.fromstring(as_svg(line, title="two & more"))
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "two & more"
    assert titles[4] == (
        "step 3: prefill of 1, tkv 65, 4 blocks used, 4 reserved\n"
        "1: left padding 55, prompt 10, right padding 63\n"
        "0: left padding 4, prompt 60, generated 1, right padding 63"
    )
    assert "http" not in as_svg(line).replace("http://www.w3.org/2000/svg", "")


def test_where_two_runs_differ_the_expected_one_is_overlaid() -> None:
    simulated = two_that_overlap()
    line = line_of(simulated)
    wrong = line_of(simulated, doctored(simulated.run, 4, tkv=70))
    assert list(steps_apart(wrong, line)) == [(4, 4)]
    picture = as_svg(wrong, line, alone=False)
    assert picture.count('class="differs"') == 1
    assert 'class="wanted"' in picture
    assert 'class="wanted"' not in as_svg(line, line, alone=False)


def test_a_run_that_no_engine_should_show_is_drawn_all_the_same() -> None:
    simulated = two_that_overlap()
    for changes in ({"tkv": 1}, {"running": (5, 1, 0)}, {"outputs": (7,)}, {"finished": (0, 1, 9)}, {"kind": "idle"}):
        line = time_line(doctored(simulated.run, 3, **changes).steps, sizes(simulated))
        ElementTree.fromstring(as_svg(line))
        as_text(line)
        assert all(list(described(stretch, own_tkv=False)) for stretch in line.stretches)


def test_no_rows_are_no_time_line() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        time_line([], [])
