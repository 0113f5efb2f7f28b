"""Tests of the formatting of step records as lines of a table."""

import pytest

from engine.config import Limits
from engine.trace import HEADER, trace_line
from tests.helpers.engine import add, core_with, request, run, step

COLUMNS = ["step", "kind", "tkv", "reserved", "used", "waiting", "running", "finished"]


def test_a_run_reads_as_a_table() -> None:
    core = add(
        core_with(Limits(max_num_seqs=2)),
        *(request(name, 64, budget) for name, budget in zip("abc", (3, 2, 1), strict=True)),
    )
    assert HEADER.split() == COLUMNS
    lines = [trace_line(record).split() for record in run(core)]
    assert lines == [
        ["1", "prefill", "64", "2", "1", "b", "c", "a", "-"],
        ["2", "prefill", "64", "4", "2", "c", "b", "a", "-"],
        ["3", "decode", "65", "4", "4", "c", "a", "b"],
        ["4", "prefill", "65", "4", "4", "-", "a", "c"],
        ["5", "decode", "66", "2", "2", "-", "-", "a"],
        ["6", "idle", "0", "0", "0", "-", "-", "-"],
    ]


def test_columns_stand_under_their_names() -> None:
    core = add(core_with(), request("a", 64, 3))
    line = trace_line(core.step())
    for name, text in (("kind", "prefill"), ("waiting", "-"), ("running", "a"), ("finished", "-")):
        at = HEADER.index(name)
        assert line[at : at + len(text)] == text
        assert line[at - 1] == " "
    for name, text in (("step", "1"), ("tkv", "64"), ("reserved", "2"), ("used", "1")):
        end = HEADER.index(name) + len(name)
        assert line[:end].endswith(f" {text}")


@pytest.mark.parametrize(("count", "shown"), [(4, "r1 r2 r3 r4"), (5, "r1 r2 r3 r4 +1"), (9, "r1 r2 r3 r4 +5")])
def test_a_long_queue_is_shortened_to_its_head(count: int, shown: str) -> None:
    core = add(core_with(Limits(max_num_seqs=1)), *(request(f"r{i}", 64, 3) for i in range(count + 1)))
    assert f"  {shown} " in trace_line(step(core, 1))
