"""Exceptions of the scheduler models."""


class ImpossibleWorkload(ValueError):  # noqa: N818 - describes the workload, not an error of the model
    """A request is at the head of the queue with nothing running, and needs more blocks than exist."""
