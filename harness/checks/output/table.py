"""Format a failed comparison with the reference as text: the first difference, the tokens around it, and a summary."""

from collections.abc import Iterable, Iterator, Sequence

from harness.checks.output.compare import ALTERNATIVES, COUNT, KL, LOGPROB, RANK, TOKEN, Position
from harness.checks.output.policies import ResolvedPolicy
from harness.suites.prompts import Vocabulary

CONTEXT_TOKENS = 3
MAX_SHOWN = 3
"""Maximum number of top tokens that the text lists at one position."""
WIDEST_TOKEN = 18


def headline(request_id: int, positions: Sequence[Position], policy: ResolvedPolicy, vocabulary: Vocabulary) -> str:
    """Return a sentence that says how engine and reference differ at the first wrong position."""
    first = next(position for position in positions if position.wrong)
    right, seen, index = first.right, first.seen, first.index
    came = sum(position.seen is not None for position in positions)
    wanted = sum(position.right is not None for position in positions)
    if seen is None:
        return f"request {request_id}: the engine generated {came} tokens, Hugging Face {wanted}"
    if right is None:
        return f"request {request_id}: the engine generated {came} tokens, Hugging Face stops after {wanted}"
    what = first.wrong[0]
    if what == TOKEN and policy.name == "golden":
        return (
            f"request {request_id}: token {index} is {_shown(vocabulary, seen.token_id)}, but the golden token that "
            f"the engine was forced to generate is {_shown(vocabulary, right.token_id)}"
        )
    if what == TOKEN:
        best = right.token_id if right.token_id != seen.token_id else right.top[0][0]
        return (
            f"request {request_id}: token {index} is {_shown(vocabulary, seen.token_id)}, Hugging Face says "
            f"{_shown(vocabulary, best)} (margin {right.margin:.3g})"
        )
    sentences = {
        LOGPROB: f"logprob of token {index} is {_number(seen.logprob)}, Hugging Face says "
        f"{_number(right.logprob_of(seen.token_id))}",
        RANK: f"token {index} ranks {seen.rank} in the engine, and {right.rank or f'below {len(right.top)}'} in "
        f"Hugging Face (margin {right.margin:.3g})",
        KL: f"the top tokens at position {index} differ from Hugging Face's: KL divergence {first.kl or 0:.3g}",
        ALTERNATIVES: f"the alternatives to token {index} differ from Hugging Face's",
        COUNT: f"the engine generated {came} tokens, but the stop conditions end the request at another token",
    }
    return f"request {request_id}: {sentences[what]}"


def details(positions: Sequence[Position], vocabulary: Vocabulary) -> Iterator[str]:
    """Yield the lines below the headline of a failed comparison.

    They are a table of the tokens around the first wrong position, the top tokens at this position (and at the first
    position with another token), and a summary of all positions.
    """
    first = next(position.index for position in positions if position.wrong)
    yield from _table(positions[max(0, first - CONTEXT_TOKENS) : first + CONTEXT_TOKENS + 1], vocabulary)
    for index in sorted({first, _first_other_token(positions, first)}):
        yield from _top_tokens(positions[index], vocabulary)
    yield ""
    yield from summary(positions)


def _first_other_token(positions: Sequence[Position], otherwise: int) -> int:
    """Return the index of the first position with a wrong token, or ``otherwise`` if all tokens are right.

    This need not be the first wrong position, because at a wrong position only the logprob may differ.
    """
    return next((p.index for p in positions if TOKEN in p.wrong), otherwise)


def rule(policy: ResolvedPolicy) -> str:
    """Return a sentence that describes the policy, with the tolerances of this run."""
    return f'docs/outputs.md "Policies": {policy.name} for {policy.precision}: {_bounds(policy)}'


def _table(positions: Iterable[Position], vocabulary: Vocabulary) -> Iterator[str]:
    yield f"   {'position':>8}  {'Hugging Face':<24} {'logprob':>9}  {'engine':<24} {'logprob':>9} {'rank':>5}  wrong"
    for p in positions:
        right = _cells(vocabulary, p.right.token_id if p.right else None, p.right.logprob if p.right else None)
        seen = _cells(vocabulary, p.seen.token_id if p.seen else None, p.seen.logprob if p.seen else None)
        rank = str(p.seen.rank) if p.seen and p.seen.rank else ""
        line = f"{'>' if p.wrong else ' '}  {p.index:>8}  {right}  {seen} {rank:>5}  {', '.join(p.wrong)}"
        yield line.rstrip()


def _cells(vocabulary: Vocabulary, token_id: int | None, logprob: float | None) -> str:
    token = "-" if token_id is None else _shown(vocabulary, token_id)
    return f"{token:<24} {_number(logprob):>9}"


def _top_tokens(position: Position, vocabulary: Vocabulary) -> Iterator[str]:
    """Yield lines with the top tokens of the reference and of the engine at one position, if both list them."""
    if position.right is None or position.seen is None or not position.seen.top:
        return
    yield ""
    yield f"top tokens at position {position.index} (margin of the best token {position.right.margin:.3g}):"
    for source, top in (("Hugging Face", position.right.top), ("engine", position.seen.top)):
        shown = (f"{_shown(vocabulary, token)} {_number(logprob)}" for token, logprob in top[:MAX_SHOWN])
        yield f"  {source:<12}  {'   '.join(f'{each:<30}' for each in shown)}".rstrip()


def summary(positions: Sequence[Position]) -> Iterator[str]:
    """Yield lines with the number of wrong positions, and the average and maximum difference of logprobs."""
    counts = {what: sum(what in p.wrong for p in positions) for what in (TOKEN, LOGPROB, RANK, KL, ALTERNATIVES, COUNT)}
    parts = ", ".join(f"{what} at {count}" for what, count in counts.items() if count)
    wrong = sum(bool(p.wrong) for p in positions)
    yield (
        f"{wrong} of {len(positions)} positions are wrong: {parts}"
        if wrong
        else f"{len(positions)} positions are right"
    )
    apart = [(p.difference, p.index) for p in positions if p.difference is not None]
    if apart:
        most, where = max(apart)
        mean = sum(difference for difference, _ in apart) / len(apart)
        yield f"logprobs differ by {mean:.2g} on average, by {most:.2g} at most (position {where})"
    kls = [(p.kl, p.index) for p in positions if p.kl is not None]
    if kls:
        most, where = max(kls)
        average = sum(kl for kl, _ in kls) / len(kls)
        yield f"the KL divergence is {average:.2g} on average, {most:.2g} at most (position {where})"


def _bounds(policy: ResolvedPolicy) -> str:
    b = policy.bounds
    return {
        "exact": f"the same tokens and ranks, logprobs within rel_tol {b.rel_tol:g} and abs_tol {b.abs_tol:g}",
        "published": f"logprobs within rel_tol {b.rel_tol:g}" + (", the same tokens" * policy.needs_same_tokens),
        "divergence": f"other tokens where the margin is at most {b.margin:g}, logprobs within abs_tol {b.abs_tol:g}",
        "golden": f"logprobs within abs_tol {b.abs_tol:g}, rank 1 where the margin is over {b.margin:g}, "
        f"KL at most {b.max_kl:g}",
    }[policy.name]


def _shown(vocabulary: Vocabulary, token_id: int) -> str:
    text = repr(vocabulary.decode((token_id,)))
    return f"{token_id} {text if len(text) <= WIDEST_TOKEN else text[: WIDEST_TOKEN - 1] + '…'}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
