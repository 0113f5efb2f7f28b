"""``PlannedRequest``: a request in the form that the model of the continuous scheduler needs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedRequest:
    """A request without its tokens. Lengths are in tokens, ``join_step`` and ``abort_step`` in engine steps.

    ``stops_after`` is the number of tokens after which a stop condition ends the request, None if none does. The
    constructor raises ValueError for an invalid request.
    """

    prompt_length: int
    max_tokens: int
    join_step: int = 0
    abort_step: int | None = None
    stops_after: int | None = None

    def __post_init__(self) -> None:
        if self.prompt_length < 1 or self.max_tokens < 1:
            raise ValueError(f"prompt_length and max_tokens must be at least 1: {self}")
        if self.join_step < 0 or (self.abort_step is not None and self.abort_step < self.join_step):
            raise ValueError(f"join_step must be at least 0, and abort_step must not be before it: {self}")
        if self.stops_after is not None and self.stops_after < 1:
            raise ValueError(f"stops_after must be at least 1: {self}")

    def length(self, max_model_len: int) -> int:
        """Return how many tokens the request generates if it is not aborted. A request that fills the context ends."""
        length = min(self.max_tokens, max(1, max_model_len - self.prompt_length))
        return length if self.stops_after is None else min(length, self.stops_after)
