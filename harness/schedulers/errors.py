"""The exception that scheduler models raise. A scheduler model is an independent implementation of the rules."""


class ImpossibleWorkload(ValueError):  # noqa: N818 - describes the workload, not an error of the scheduler model
    """By the rules, a request can never run or continue, for example because it needs more blocks than there are.

    The message says why. ``limit`` is the limit or option that must be raised, as suites name it.
    """

    def __init__(self, reason: str, limit: str) -> None:
        super().__init__(reason)
        self.limit = limit
