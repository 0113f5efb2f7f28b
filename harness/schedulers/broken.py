"""Violations of invariants, the verdict about them, and a check of how requests end that all schedulers use."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.suites.schema import Request
from harness.types import RequestSpec, Verdict

SHOWN = 8


@dataclass(frozen=True)
class Broken:
    """A violation of an invariant after a step. ``what`` is a sentence, and ``rule`` the key of the invariant."""

    step: int
    what: str
    rule: str


def as_verdict(found: Iterable[Broken], rules: Mapping[str, str], observations: int) -> Verdict:
    """Return the verdict about the violations found in a run, whose step table has ``observations`` rows.

    ``rules`` has the text of each invariant by its key.
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
    """Yield violations if a request has too many or too few tokens. ``count`` is how many it got.

    A request ends after ``max_tokens`` tokens, or when prompt and generated tokens fill ``max_model_len``, which is
    None if it is not known. ``finished`` is the step at which the request finished, None if it did not, and ``last``
    the last step of the run.
    """
    number, most = request.request_id, request.within(max_model_len).max_tokens
    limit = f"max_tokens is {request.max_tokens}"
    if most < request.max_tokens:
        limit = f"its prompt of {len(request.prompt_token_ids)} leaves {most} of max_model_len {max_model_len}"
    if count > most:
        yield Broken(last, f"request {number} got {count} tokens, {limit}", "end")
    if finished is not None and timing.runs_to_max_tokens and count != most:
        yield Broken(finished, f"request {number} finished with {count} of {most} tokens", "end")
