"""Violated invariants: one violation, the verdict over all, and the checks for the ends of requests."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.suites.schema import Request
from harness.types import RequestSpec, Verdict

SHOWN = 8


@dataclass(frozen=True)
class Broken:
    """A violated invariant after a step. ``rule`` is the key of the invariant's text."""

    step: int
    what: str
    rule: str


def as_verdict(found: Iterable[Broken], rules: Mapping[str, str], observations: int) -> Verdict:
    """Return the verdict for the violations in a run of ``observations`` rows.

    ``rules`` maps keys to invariant texts.
    """
    broken = sorted(found, key=lambda each: each.step)
    if not broken:
        return Verdict(True, f"invariants hold after each of {observations} observations")
    details = tuple(f"step {each.step}: {each.what}" for each in broken[:SHOWN]) if len(broken) > 1 else ()
    more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
    headline = f"invariant broken at step {broken[0].step}: {broken[0].what}{more}"
    return Verdict(False, headline, details, rules[broken[0].rule])


def length_broken(
    request: RequestSpec, timing: Request, count: int, max_model_len: int | None, finished: int | None, last: int
) -> Iterator[Broken]:
    """Yield what is wrong with the ``count`` tokens of a request that finished at step ``finished`` (None: never).

    A request ends at ``max_tokens``, or when prompt and generated tokens reach ``max_model_len`` (None: not known).
    """
    number, most = request.request_id, request.within(max_model_len).max_tokens
    limit = f"max_tokens is {request.max_tokens}"
    if most < request.max_tokens:
        limit = f"its prompt of {len(request.prompt_token_ids)} leaves {most} of max_model_len {max_model_len}"
    if count > most:
        yield Broken(last, f"request {number} got {count} tokens, {limit}", "end")
    if finished is not None and timing.runs_to_max_tokens and count != most:
        yield Broken(finished, f"request {number} finished with {count} of {most} tokens", "end")
