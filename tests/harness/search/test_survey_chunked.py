"""Tests of surveys of the chunked scheduler: a correct engine has no failures, and failures are shrunk and counted."""

from pathlib import Path

import pytest

from engine.scheduling.chunked.scheduler import ChunkedScheduler
from harness.cli import main
from harness.drivers.reference import SimulationDriver
from harness.schedulers.chunked.workloads import ChunkedWorkload
from harness.schedulers.sharing import SharingRequest
from harness.search.shrink import features_of, shrunk
from harness.search.survey import survey
from harness.types import ChunkingSetup, SchedulingLimits, Verdict

AS_BUILT = SchedulingLimits(512, 4, 35, 2048)
DEFAULT = ChunkingSetup()


@pytest.mark.search
def test_nothing_is_found_on_the_engine_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = [
        "search",
        "--scheduler",
        "chunked",
        "--all",
        "--workloads",
        "20",
        "--seed",
        "1",
        "--write",
        str(tmp_path),
    ]
    assert main(command) == 0
    assert "20 workloads, " in capsys.readouterr().out


@pytest.mark.search
def test_every_workload_that_goes_wrong_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChunkedScheduler, "_may_interleave", lambda self: not self._paused)
    result = survey(SimulationDriver(), 15, seed=1, scheduler="chunked")
    assert result.tried == 15
    assert result.found
    for found in result.found:
        # Consecutive chunks although a request decodes: needs two requests and interleaving, and nothing else.
        assert isinstance(found.workload, ChunkedWorkload)
        assert found.workload.chunking.interleave
        assert len(found.workload.requests) == 2


def test_what_goes_wrong_keeps_what_it_takes_and_loses_the_rest() -> None:
    """The failure needs two requests that share a prefix, and an abort. Shrinking must keep these and nothing else."""

    def judge(workload: ChunkedWorkload) -> Verdict:
        shared = [r for r in workload.requests if r.of is not None and r.shared >= 64 and r.abort_step is not None]
        return Verdict(not shared, "step 4 differs")

    requests = (
        SharingRequest(9, 9),
        SharingRequest(200, 12, 3),
        SharingRequest(300, 8, 5, abort_step=9, of=1, shared=130),
        SharingRequest(40, 5, 6, of=0, shared=9),
    )
    workload = ChunkedWorkload(SchedulingLimits(512, 2, 9, 700), ChunkingSetup(64, interleave=False), requests)
    smallest, verdict = shrunk(workload, judge(workload), judge)
    assert verdict.headline == "step 4 differs"
    root, sharer = smallest.requests
    assert (sharer.of, sharer.shared) == (0, 64)
    assert sharer.prompt_length < 100  # as small as the number of trials allows
    assert root.prompt_length + root.max_tokens >= 64
    assert (smallest.limits, smallest.chunking) == (AS_BUILT, DEFAULT)
    assert features_of(smallest) == ("a shared beginning", "an abort")


def test_sharing_with_a_removed_request_is_removed() -> None:
    def judge(workload: ChunkedWorkload) -> Verdict:
        return Verdict(len(workload.requests) < 2, "two are too many")

    requests = (SharingRequest(99, 2), SharingRequest(99, 2, of=0, shared=64), SharingRequest(99, 2, of=1, shared=64))
    workload = ChunkedWorkload(AS_BUILT, DEFAULT, requests)
    smallest, _ = shrunk(workload, judge(workload), judge)
    assert smallest.requests == (SharingRequest(1, 1), SharingRequest(1, 1))
