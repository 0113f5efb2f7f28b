"""Tests of ``--cb-shard auto`` with the variables of each job scheduler, and with contradictory variables."""

from argparse import ArgumentTypeError

import pytest

from harness.pytest_plugin.shard_environment import part_of_this_job
from harness.pytest_plugin.shards import Shard, shard

SLURM = {"SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_MAX": "9", "SLURM_ARRAY_TASK_STEP": "2"}


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "5"}, (1, 5)),
        ({"JOB_COMPLETION_INDEX": "4", "JOB_COMPLETIONS": "5"}, (5, 5)),
        ({**SLURM, "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, (1, 4)),
        ({**SLURM, "SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "4"}, (4, 4)),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_MIN": "0"}, (8, 8)),
        ({"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "3"}, (1, 3)),
        ({"MATRIX_JOB_INDEX": "2", "MATRIX_JOB_TOTAL": "3"}, (3, 3)),
        # GitLab sets the number of jobs also where a job is not parallel.
        ({"CI_NODE_TOTAL": "1", "JOB_COMPLETION_INDEX": "1", "JOB_COMPLETIONS": "2"}, (2, 2)),
    ],
)
def test_part(environment: dict[str, str], part: tuple[int, int]) -> None:
    assert part_of_this_job(environment) == part


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {},
            "auto: no job scheduler has set the index of this job; known variables are JOB_COMPLETION_INDEX",
        ),
        ({"JOB_COMPLETION_INDEX": "1"}, "JOB_COMPLETION_INDEX is set, but JOB_COMPLETIONS is not. Kubernetes does not"),
        (
            {"JOB_COMPLETION_INDEX": "5", "JOB_COMPLETIONS": "5"},
            "is 5, but must be from 0 to 4, because JOB_COMPLETIONS is 5",
        ),
        (
            {"CI_NODE_INDEX": "0", "CI_NODE_TOTAL": "3"},
            "is 0, but must be from 1 to 3, because CI_NODE_TOTAL is 3",
        ),
        ({"CI_NODE_INDEX": "one", "CI_NODE_TOTAL": "3"}, "CI_NODE_INDEX must be a number, not 'one'"),
        ({"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "0"}, "CI_NODE_TOTAL must be the number of jobs, at least 1, not 0"),
        (
            {"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "3", "SLURM_ARRAY_TASK_ID": "1"},
            "SLURM_ARRAY_TASK_ID (SLURM array) and CI_NODE_INDEX (GitLab parallel job) are set; give the part",
        ),
        (
            {"CI_NODE_INDEX": "1", "JOB_COMPLETION_INDEX": "0", "SLURM_ARRAY_TASK_ID": "1"},
            "auto: JOB_COMPLETION_INDEX (Kubernetes Indexed Job), SLURM_ARRAY_TASK_ID (SLURM array) and "
            "CI_NODE_INDEX (GitLab parallel job) are set; give the part",
        ),
        ({**SLURM, "SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4"}, "must be from 3 to 9 in steps of 2"),
        (
            {**SLURM, "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "3"},
            "its 3 jobs without gaps would end at index 7, but SLURM_ARRAY_TASK_MAX is 9",
        ),
    ],
)
def test_what_does_not_fit(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ArgumentTypeError) as error:
        part_of_this_job(environment)
    assert message in str(error.value)


def test_explicit_numbers_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.setenv("JOB_COMPLETIONS", "3")
    assert shard("auto") == Shard(2, 3)
    assert shard("5/7") == Shard(5, 7)
