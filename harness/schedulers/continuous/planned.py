"""A request as the model of the continuous scheduler reads it: lengths and times, without tokens."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedRequest:
    """A request for scheduling: lengths in tokens, times in engine steps.

    ``stops_after`` is the number of tokens after which something other than ``max_tokens`` ends it. Raises ValueError
    for an invalid request.
    """

    prompt_length: int
    max_tokens: int
    join_step: int = 0
    abort_step: int | None = None
    stops_after: int | None = None

    def __post_init__(self) -> None:
        if self.prompt_length < 1 or self.max_tokens < 1:
            raise ValueError(f"a request has at least one token in and one out, not {self}")
        if self.join_step < 0 or (self.abort_step is not None and self.abort_step < self.join_step):
            raise ValueError(f"a request joins at step 0 or later and is aborted after that, not {self}")
        if self.stops_after is not None and self.stops_after < 1:
            raise ValueError(f"a request stops after one token or later, not {self}")

    def length(self, max_model_len: int) -> int:
        """Return the number of tokens it generates unless it is aborted.

        A sequence also ends when it fills the context.
        """
        length = min(self.max_tokens, max(1, max_model_len - self.prompt_length))
        return length if self.stops_after is None else min(length, self.stops_after)
