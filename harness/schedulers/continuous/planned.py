"""``PlannedRequest``: a request in the form that the scheduler model of the continuous scheduler needs."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.suites.schema import Request
from harness.types import RequestSpec, Run


@dataclass(frozen=True)
class PlannedRequest:
    """A request with the length of its prompt, but without token ids.

    The request joins after ``join_step`` engine steps, and is aborted after ``abort_step`` (None: never).
    ``stops_after`` is the number of generated tokens after which a stop condition ends the request, None if no stop
    condition does. The constructor raises ValueError for an invalid request.
    """

    prompt_length: int
    max_tokens: int
    join_step: int = 0
    abort_step: int | None = None
    stops_after: int | None = None

    def __post_init__(self) -> None:
        if self.prompt_length < 1 or self.max_tokens < 1:
            given = f"{self.prompt_length} and {self.max_tokens}"
            raise ValueError(f"prompt_length and max_tokens must be at least 1, but are {given}")
        if self.join_step < 0 or (self.abort_step is not None and self.abort_step < self.join_step):
            given = f"join_step is {self.join_step} and abort_step {self.abort_step}"
            raise ValueError(f"join_step must be at least 0, and abort_step at least join_step, but {given}")
        if self.stops_after is not None and self.stops_after < 1:
            raise ValueError(f"stops_after must be at least 1, but is {self.stops_after}")

    def length(self, max_model_len: int) -> int:
        """Return how many tokens the request generates if it is not aborted.

        The request ends after ``max_tokens``, at ``stops_after``, or when it fills ``max_model_len``.
        """
        length = min(self.max_tokens, max(1, max_model_len - self.prompt_length))
        return length if self.stops_after is None else min(length, self.stops_after)


def planned_requests(specs: Sequence[RequestSpec], timings: Sequence[Request], run: Run) -> list[PlannedRequest]:
    """Convert the requests of a case to the form that the scheduler model needs.

    If a request can end before ``max_tokens``, ``stops_after`` is the number of tokens that it got in ``run``.
    """
    return [
        PlannedRequest(
            len(spec.prompt_token_ids),
            spec.max_tokens,
            timing.join_step,
            timing.abort_step,
            None if timing.runs_to_max_tokens else max(1, len(tokens)),
        )
        for spec, timing, tokens in zip(specs, timings, run.tokens, strict=True)
    ]
