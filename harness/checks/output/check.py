"""Compare the tokens and logprobs of one request with those of the reference, as a policy requires."""

from collections.abc import Sequence
from typing import Any

from checkpoints import Checkpoint
from harness.checks.output.compare import Position, Sequences, compare, with_alternatives
from harness.checks.output.policies import ResolvedPolicy
from harness.checks.output.table import details, headline, rule, summary
from harness.references import Oracle, Reference, ReferenceMissingError
from harness.references.stopping import end_of, ended, wanted_for
from harness.suites.prompts import Vocabulary
from harness.types import RequestSpec, Token, Verdict


def check_output(
    request: RequestSpec,
    tokens: Sequence[Token],
    full: Reference,
    policy: ResolvedPolicy,
    vocabulary: Vocabulary,
    *,
    oracle: Oracle,
    checkpoint: Checkpoint,
    aborted: bool = False,
    alternatives: int | None = None,
) -> Verdict:
    """Check the tokens of one request against the reference, at every position.

    ``full`` is Hugging Face's greedy continuation of the prompt, with ``max_tokens`` tokens. It is compared up to the
    token at which a stop condition ends the request. If the request was ``aborted``, it is compared up to the abort.
    ``alternatives`` is the number of alternative tokens that the request asks for at each position, whose logprobs are
    then compared as well; None if it asks for none. ``oracle`` computes the reference model's logprobs of tokens that
    are not in ``full``.
    """
    wanted = ended(full, request, vocabulary)
    if aborted:
        wanted = wanted.upto(len(tokens))
    token_ids = tuple(token.token_id for token in tokens)
    allowed = wanted_for(request, vocabulary)
    sequences = Sequences(
        tokens,
        wanted,
        free=lambda index, token: index >= allowed.forbidden_until or token not in allowed.forbidden,
        rescored=lambda: oracle.scored(checkpoint, request.prompt_token_ids, token_ids, request.structured_outputs),
        own_length=lambda: len(tokens) if aborted else end_of(token_ids, request, vocabulary) or request.max_tokens,
    )
    try:
        positions = compare(policy, sequences)
    except ReferenceMissingError as error:
        return Verdict(False, f"request {request.request_id}: the outputs cannot be compared: {error}")
    if alternatives is not None:
        positions = with_alternatives(positions, alternatives, policy.bounds)
    data = _data(request, tokens, wanted, policy, vocabulary) | _outcome(positions)
    if any(position.wrong for position in positions):
        head = headline(request.request_id, positions, policy, vocabulary)
        texts = (f"Hugging Face: {data['reference_text']!r}", f"engine:       {data['text']!r}", "")
        return Verdict(False, head, (*texts, *details(positions, vocabulary)), rule(policy), data)
    like = "as in Hugging Face" if token_ids == wanted.token_ids else "accepted by the policy"
    return Verdict(True, f"request {request.request_id}: {_passed(positions, policy, like)}", data=data)


def _passed(positions: Sequence[Position], policy: ResolvedPolicy, like: str) -> str:
    apart = [p.difference for p in positions if p.difference is not None]
    within = f", logprobs within {max(apart):.1g}" if apart else ""
    how = "" if policy.name == "exact" else f" (policy {policy.name})"
    count = f"{len(positions)} token" + "s" * (len(positions) != 1)
    return f"{count} {like}{within}{how}"


def _outcome(positions: Sequence[Position]) -> dict[str, Any]:
    wrong = {str(p.index): list(p.wrong) for p in positions if p.wrong}
    return {"wrong": wrong, "summary": list(summary(positions))}


def _data(
    request: RequestSpec, tokens: Sequence[Token], wanted: Reference, policy: ResolvedPolicy, vocabulary: Vocabulary
) -> dict[str, Any]:
    """Return the engine's and the reference's tokens as JSON types, for reports.

    The lists in the result have one entry for each position. Logprobs that the driver can't observe are None.
    """
    token_ids = [token.token_id for token in tokens]
    return {
        "request": request.request_id,
        "policy": policy.name,
        "text": vocabulary.decode(tuple(token_ids)),
        "reference_text": vocabulary.decode(wanted.token_ids),
        "token_ids": token_ids,
        "reference_token_ids": list(wanted.token_ids),
        "logprobs": [token.logprob for token in tokens],
        "reference_logprobs": [token.logprob for token in wanted.tokens],
    }
