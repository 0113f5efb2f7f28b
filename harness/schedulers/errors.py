"""What the scheduler models raise."""


class ImpossibleWorkload(ValueError):  # noqa: N818 - it is the workload that cannot be, nothing went wrong
    """A request reaches the head of the queue with nothing running, and needs more blocks than there are."""
