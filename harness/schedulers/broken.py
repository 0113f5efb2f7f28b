"""Code that the invariant checks of all schedulers share.

It has the class of violations (``Broken``), the verdict on a run (``as_verdict``), and the check of how requests end
(``ends_broken``).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.suites.schema import Request
from harness.types import RequestSpec, Run, Verdict

SHOWN = 8


@dataclass(frozen=True)
class Broken:
    """A violation of an invariant after step ``step``.

    ``what`` says what is wrong. ``rule`` is the key of the invariant in the dict ``RULES`` of the scheduler's module
    ``invariants.py``.
    """

    step: int
    what: str
    rule: str


def listed(numbers: Iterable[int]) -> str:
    """Return numbers (of requests, blocks or steps) as text, such as ``2 0``, or ``none``.

    Numbers are joined with spaces, as in step tables. ``failure_kind`` in ``harness/search/shrink.py`` needs the spaces
    to recognise lists of numbers.
    """
    return " ".join(map(str, numbers)) or "none"


def named(requests: Sequence[int]) -> str:
    """Return request numbers as text: ``no request``, ``request 2``, or ``requests 2 0``."""
    if not requests:
        return "no request"
    return f"request{'s' if len(requests) > 1 else ''} {listed(requests)}"


def as_verdict(found: Iterable[Broken], rules: Mapping[str, str], observations: int) -> Verdict:
    """Return the verdict on a run in which the violations ``found`` were found. It passes if there are none.

    ``rules`` has the text of each invariant of the scheduler; the keys are the values of ``Broken.rule``.
    ``observations`` is the number of rows of the step table.
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
    """Yield a violation if the number of tokens that a request generated, ``count``, is too large or too small.

    A request ends after ``max_tokens`` tokens, or when prompt and generated tokens fill the context. ``max_model_len``
    is None if it is not known. ``finished`` is the step at which the request finished, None if it did not finish.
    ``last`` is the last step of the run.
    """
    number, largest = request.request_id, request.within(max_model_len).max_tokens
    limit = f"max_tokens is {request.max_tokens}"
    if largest < request.max_tokens:
        length = len(request.prompt_token_ids)
        limit = f"its prompt of {length} tokens leaves room for {largest} with max_model_len {max_model_len}"
    if count > largest:
        yield Broken(last, f"request {number} got {count} tokens, but {limit}", "end")
    if finished is not None and timing.runs_to_max_tokens and count != largest:
        yield Broken(finished, f"request {number} finished with {count} of {largest} tokens", "end")


def ends_broken(
    run: Run, requests: Sequence[RequestSpec], timings: Sequence[Request], max_model_len: int | None
) -> Iterator[Broken]:
    """Yield the violations in how requests ended.

    A request that is not aborted must finish exactly once, and with the right number of tokens (``length_broken``).
    ``max_model_len`` is None if it is not known.
    """
    last = run.steps[-1].step
    for request, timing, tokens in zip(requests, timings, run.tokens, strict=True):
        number = request.request_id
        ends = [step.step for step in run.steps if number in step.finished]
        if len(ends) > 1:
            yield Broken(ends[-1], f"request {number} finished more than once, at steps {listed(ends)}", "end")
        elif not ends and timing.abort_step is None:
            yield Broken(last, f"request {number} never finished", "end")
        else:
            yield from length_broken(request, timing, len(tokens), max_model_len, ends[0] if ends else None, last)
