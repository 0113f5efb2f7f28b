"""How many tokens a request may end with, whichever scheduler it had."""

from collections.abc import Iterator

from harness.checks.moves import Broken
from harness.drivers.base import RequestSpec
from harness.schema import Request


def length_broken(
    request: RequestSpec, timing: Request, count: int, max_model_len: int | None, finished: int | None, last: int
) -> Iterator[Broken]:
    """What is wrong with the ``count`` tokens of a request that finished at step ``finished`` (None: it didn't).

    It ends at ``max_tokens``, or where prompt and generated tokens reach ``max_model_len`` (None: not known).
    """
    number, most = request.request_id, request.within(max_model_len).max_tokens
    limit = f"max_tokens is {request.max_tokens}"
    if most < request.max_tokens:
        limit = f"its prompt of {len(request.prompt_token_ids)} leaves {most} of max_model_len {max_model_len}"
    if count > most:
        yield Broken(last, f"request {number} got {count} tokens, {limit}", "end")
    if finished is not None and timing.runs_to_max_tokens and count != most:
        yield Broken(finished, f"request {number} finished with {count} of {most} tokens", "end")
