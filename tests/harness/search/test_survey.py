"""Tests of surveys, which count and shrink the failing workloads of an engine. A correct engine has none."""

from pathlib import Path

import pytest

from engine.scheduling import padding
from engine.scheduling.continuous import scheduler as continuous
from harness.cli import main
from harness.drivers.reference import SimulationDriver
from harness.schedulers.continuous.planned import PlannedRequest
from harness.schedulers.continuous.workloads import Workload
from harness.search.shrink import failure_kind, features_of, shrunk
from harness.search.survey import beyond_entry_points, survey
from harness.types import SchedulingLimits, Verdict

AS_BUILT = SchedulingLimits(512, 4, 35, 2048)
RESERVED = "step N differs (prefill of N): reserved N, expected N"
"""The most frequent failure of an engine that reserves a block too many."""


def reserve_one_block_too_many(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuous, "blocks_reserved", lambda *a: padding.blocks_reserved(*a) + 1)


@pytest.mark.search
def test_nothing_is_found_on_the_engine_as_it_is() -> None:
    result = survey(SimulationDriver(), 40, seed=1)
    assert (result.tried, result.found) == (40, ())


@pytest.mark.search
def test_every_workload_that_goes_wrong_is_counted_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    reserve_one_block_too_many(monkeypatch)
    expected: list[tuple[int, int]] = []
    result = survey(SimulationDriver(), 20, seed=1, shrinking=lambda *message: expected.append(message))
    assert result.tried == len(result.found) == len(expected) == 20
    assert sum(result.kinds.values()) == 20
    for found in result.found:
        [request] = found.workload.requests
        assert (request.prompt_length, request.join_step, request.abort_step) == (1, 0, None)
        assert not beyond_entry_points(found)
    smallest = result.smallest[RESERVED].workload
    assert (smallest.requests, smallest.limits) == ((PlannedRequest(1, 1),), AS_BUILT)


@pytest.mark.search
def test_the_command_goes_on_to_the_end_and_says_how_many(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reserve_one_block_too_many(monkeypatch)
    assert main(["search", "--workloads", "10", "--all", "--write", str(tmp_path)]) == 1
    message = capsys.readouterr().out
    assert "10 workloads, " in message
    assert ": 10 failed, in " in message
    assert f" times: {RESERVED}\n(0 of these workloads have a request that every entry point would refuse)" in message
    assert "written to " in message
    assert list(tmp_path.glob("found-*.yaml"))


def test_shrinking_keeps_the_way_in_which_it_goes_wrong() -> None:
    """A workload fails in two ways. The shrunk workload must fail in the way that was found, and may lose the other."""

    def judge(workload: Workload) -> Verdict:
        longest = max(request.prompt_length for request in workload.requests)
        if longest >= 100:
            return Verdict(False, f"step 3 is too long: {longest}")
        return Verdict(len(workload.requests) == 1, f"there are {len(workload.requests)}")

    requests = (PlannedRequest(150, 9, 0, 5), PlannedRequest(3, 7, 2), PlannedRequest(120, 8, 4))
    workload = Workload(SchedulingLimits(256, 3, 9, 700), requests)
    smallest, verdict = shrunk(workload, judge(workload), judge)
    assert smallest == Workload(AS_BUILT, (PlannedRequest(100, 1),))
    assert verdict.headline == "step 3 is too long: 100"


def test_a_manner_is_the_message_without_its_numbers() -> None:
    one, two = (
        Verdict(False, f"step {n} is a decode of {ids}, expected a prefill of 2") for n, ids in ((3, 0), (14, "1 0"))
    )
    assert failure_kind(one) == failure_kind(two)


def test_requests_that_only_come_late_come_at_once() -> None:
    """Shrinking must move the join steps of two requests together, if the failure depends on the steps between them."""

    def judge(workload: Workload) -> Verdict:
        first, *others = (request.join_step for request in workload.requests)
        return Verdict(others != [first + 3], "apart by three")

    workload = Workload(AS_BUILT, (PlannedRequest(1, 1, 51), PlannedRequest(1, 1, 54, 60)))
    smallest, _ = shrunk(workload, judge(workload), judge)
    assert [request.join_step for request in smallest.requests] == [0, 3]
    assert features_of(smallest) == ()
