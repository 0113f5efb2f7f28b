"""``--cb-shard auto``: read the part and the number of parts from the environment variables of a job scheduler."""

from argparse import ArgumentTypeError
from collections.abc import Mapping
from dataclasses import dataclass

SLURM_STEP, SLURM_MAX = "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_MAX"


@dataclass(frozen=True)
class Scheduler:
    """A job scheduler, such as SLURM, which sets environment variables for each of several jobs.

    The variable ``index`` has the index of the job, and the variable ``total`` the number of jobs.
    ``first`` is the index of the first job, or the name of the variable with this index. ``hint`` says how to set the
    variable ``total`` if the scheduler does not set it.
    """

    name: str
    index: str
    total: str
    first: int | str
    hint: str = ""


SCHEDULERS = (
    Scheduler(
        "Kubernetes Indexed Job",
        "JOB_COMPLETION_INDEX",
        "JOB_COMPLETIONS",
        first=0,
        hint="Kubernetes does not set it: give the container an environment variable with the Job's completions",
    ),
    Scheduler("SLURM array", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", first="SLURM_ARRAY_TASK_MIN"),
    Scheduler("GitLab parallel job", "CI_NODE_INDEX", "CI_NODE_TOTAL", first=1),
    Scheduler(
        "GitHub matrix",
        "MATRIX_JOB_INDEX",
        "MATRIX_JOB_TOTAL",
        first=0,
        hint="GitHub does not set it: give the step `env: {MATRIX_JOB_INDEX: ${{ strategy.job-index }}, "
        "MATRIX_JOB_TOTAL: ${{ strategy.job-total }}}`",
    ),
)


def part_of_this_job(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return which part of the tests this job runs, counted from 1, and the number of parts.

    Raises ArgumentTypeError if no job scheduler has set the index of this job, if several have, as with SLURM in a
    GitLab job, or if a number is missing or impossible. The message tells the user to give the two numbers.
    """
    found = [scheduler for scheduler in SCHEDULERS if environment.get(scheduler.index)]
    if not found:
        known = ", ".join(f"{scheduler.index} ({scheduler.name})" for scheduler in SCHEDULERS)
        raise ArgumentTypeError(
            f"auto: no job scheduler has set the index of this job; known variables are {known}. Give the part and the "
            "number of parts instead of auto, such as --cb-shard 2/5"
        )
    if len(found) > 1:
        *others, last = (f"{scheduler.index} ({scheduler.name})" for scheduler in found)
        raise ArgumentTypeError(
            f"auto: {', '.join(others)} and {last} are set; "
            "give the part and the number of parts instead of auto, such as --cb-shard 2/5"
        )
    return _part(found[0], environment)


def _part(scheduler: Scheduler, environment: Mapping[str, str]) -> tuple[int, int]:
    index, total = (_number(name, environment, scheduler) for name in (scheduler.index, scheduler.total))
    if not total:
        raise ArgumentTypeError(f"auto: {scheduler.total} must be the number of jobs, at least 1, not 0")
    first = scheduler.first
    if isinstance(first, str):
        first = _number(first, environment, scheduler)
    step = int(environment.get(SLURM_STEP) or 1) if scheduler.index.startswith("SLURM") else 1
    part, remainder = divmod(index - first, step)
    last = first + (total - 1) * step
    if remainder or not 0 <= part < total:
        raise ArgumentTypeError(
            f"auto: {scheduler.index} is {index}, but must be from {first} to {last}"
            f"{f' in steps of {step}' if step > 1 else ''}, because {scheduler.total} is {total}"
        )
    if SLURM_MAX in environment and scheduler.index.startswith("SLURM") and environment[SLURM_MAX] != str(last):
        raise ArgumentTypeError(
            f"auto: the SLURM array has gaps: its {total} jobs without gaps would end at index {last}, but {SLURM_MAX} "
            f"is {environment[SLURM_MAX]}. Submit the array without gaps, or give the part and the number of parts "
            "instead of auto, such as --cb-shard 2/5"
        )
    return part + 1, total


def _number(name: str, environment: Mapping[str, str], scheduler: Scheduler) -> int:
    text = environment.get(name, "")
    if not text:
        raise ArgumentTypeError(
            f"auto: {scheduler.index} is set, but {name} is not{f'. {scheduler.hint}' if scheduler.hint else ''}"
        )
    if not (text.isascii() and text.isdecimal()):
        raise ArgumentTypeError(f"auto: {name} must be a number, not {text!r}")
    return int(text)
