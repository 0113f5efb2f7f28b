"""The exception that the models of schedulers raise."""


class ImpossibleWorkload(ValueError):  # noqa: N818 - describes the workload, not an error of the model
    """A request can never run, for example because it needs more blocks than there are."""
