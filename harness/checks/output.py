"""Tokens and logprobs of a run against Hugging Face on CPU. It keeps looking after the first difference."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from checkpoints import Checkpoint
from harness.checks.verdict import Verdict
from harness.drivers.base import RequestSpec, Token
from harness.oracle import Reference, reference
from harness.prompts import Vocabulary


@dataclass(frozen=True)
class Tolerance:
    """How far a logprob may be off. It must be within ``rel_tol`` and within ``abs_tol``.

    ``rel_tol`` 0.35 is the rule of the plugin's own tests, ``math.isclose(hf_logprob, logprob, rel_tol=0.35)``.
    ``abs_tol`` is what float32 on CPU is held to on top of it: measured differences are below 1e-4, and an engine
    that lets left padding into a prefill stays within 35% at most tokens. Differences below ``noise`` always
    pass: the logprob of a token that is all but certain is as small as the noise of float32 itself.
    """

    rel_tol: float = 0.35
    abs_tol: float = 0.01
    noise: float = 1e-4

    def allows(self, seen: float | None, right: float) -> bool:
        """Whether a logprob passes; one that the driver cannot see does."""
        if seen is None or abs(right - seen) <= self.noise:
            return True
        return math.isclose(right, seen, rel_tol=self.rel_tol) and abs(right - seen) <= self.abs_tol


CONTEXT_TOKENS = 3
UNFINISHED_CHARACTER = "\N{REPLACEMENT CHARACTER}"


def check_output(
    request: RequestSpec,
    tokens: Sequence[Token],
    checkpoint: Checkpoint,
    vocabulary: Vocabulary,
    *,
    aborted: bool = False,
    tolerance: Tolerance = Tolerance(),
) -> Verdict:
    """One sequence: its tokens identical to greedy decoding of the same prompt alone, each logprob close.

    A request that was aborted is held to the tokens it got until then.
    """
    wanted = expected_reference(request, checkpoint, vocabulary)
    if aborted:
        count = min(len(tokens), len(wanted.token_ids))
        wanted = Reference(wanted.token_ids[:count], wanted.logprobs[:count], wanted.margins[:count])
    length = max(len(tokens), len(wanted.token_ids))
    different = [i for i in range(length) if _token(tokens, i) != _reference_token(wanted, i)]
    far = [
        i
        for i in range(min(len(tokens), len(wanted.token_ids)))
        if i not in different and not tolerance.allows(tokens[i].logprob, wanted.logprobs[i])
    ]
    data = _data(request, tokens, wanted, vocabulary)
    if not different and not far:
        return Verdict(True, f"request {request.request_id}: {length} tokens as Hugging Face", data=data)
    first = min(different + far)
    details = [
        f"Hugging Face: {vocabulary.decode(wanted.token_ids)!r}",
        f"engine:       {vocabulary.decode(tuple(t.token_id for t in tokens))!r}",
        "",
        *_token_table(tokens, wanted, vocabulary, first, set(different + far)),
        f"{len(different)} of {length} tokens differ; of the others {len(far)} logprobs are further off than "
        f"rel_tol {tolerance.rel_tol:g} or abs_tol {tolerance.abs_tol:g}",
    ]
    return Verdict(False, _headline(request.request_id, first, tokens, wanted, vocabulary), tuple(details), data=data)


def expected_reference(request: RequestSpec, checkpoint: Checkpoint, vocabulary: Vocabulary) -> Reference:
    """The greedy continuation, cut where the request's own stop conditions end it."""
    ending = set(request.stop_token_ids) | (set() if request.ignore_eos else vocabulary.eos_token_ids)
    full = reference(
        checkpoint, request.prompt_token_ids, request.max_tokens, tuple(sorted(ending)), request.min_tokens
    )
    for count in range(max(1, request.min_tokens), len(full.token_ids) + 1):
        ids = full.token_ids[:count]
        if ids[-1] in ending or any(_completes(stop, ids, vocabulary) for stop in request.stop):
            return Reference(ids, full.logprobs[:count], full.margins[:count])
    return full


def _completes(stop: str, ids: tuple[int, ...], vocabulary: Vocabulary) -> bool:
    """Whether the last token completes a stop string: one that was there before ``min_tokens`` ends nothing later."""
    before, after = vocabulary.visible(ids[:-1]).rstrip(UNFINISHED_CHARACTER), vocabulary.visible(ids)
    return after.find(stop, max(0, len(before) - len(stop) + 1)) >= 0


def _token(tokens: Sequence[Token], index: int) -> int | None:
    return tokens[index].token_id if index < len(tokens) else None


def _reference_token(wanted: Reference, index: int) -> int | None:
    return wanted.token_ids[index] if index < len(wanted.token_ids) else None


def _headline(request_id: int, first: int, tokens: Sequence[Token], wanted: Reference, vocabulary: Vocabulary) -> str:
    seen, right = _token(tokens, first), _reference_token(wanted, first)
    if seen is None:
        return f"request {request_id}: {len(tokens)} tokens came, Hugging Face has {len(wanted.token_ids)}"
    if right is None:
        return f"request {request_id}: {len(tokens)} tokens came, Hugging Face stops after {len(wanted.token_ids)}"
    if seen != right:
        return (
            f"request {request_id}: token {first} is {_shown(vocabulary, seen)}, Hugging Face says "
            f"{_shown(vocabulary, right)} (margin {wanted.margins[first]:.3g})"
        )
    return (
        f"request {request_id}: logprob of token {first} is {tokens[first].logprob:.4f}, "
        f"Hugging Face says {wanted.logprobs[first]:.4f}"
    )


def _shown(vocabulary: Vocabulary, token_id: int) -> str:
    return f"{token_id} {vocabulary.decode((token_id,))!r}"


def _token_table(
    tokens: Sequence[Token], wanted: Reference, vocabulary: Vocabulary, first: int, wrong: Collection[int]
) -> list[str]:
    lines = [f"   {'position':>8}  {'Hugging Face':<24} {'logprob':>9}  {'engine':<24} {'logprob':>9}"]
    length = max(len(tokens), len(wanted.token_ids))
    for i in range(max(0, first - CONTEXT_TOKENS), min(length, first + CONTEXT_TOKENS + 1)):
        right, seen = _reference_token(wanted, i), _token(tokens, i)
        left = (
            f"{_shown(vocabulary, right):<24} {wanted.logprobs[i]:>9.4f}" if right is not None else f"{'-':<24} {'':>9}"
        )
        logprob = tokens[i].logprob if seen is not None else None
        engine = _shown(vocabulary, seen) if seen is not None else "-"
        number = "" if logprob is None else f"{logprob:.4f}"
        lines.append(f"{'>' if i in wrong else ' '}  {i:>8}  {left}  {engine:<24} {number:>9}")
    return lines


def _data(request: RequestSpec, tokens: Sequence[Token], wanted: Reference, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "request": request.request_id,
        "text": vocabulary.decode(tuple(t.token_id for t in tokens)),
        "reference_text": vocabulary.decode(wanted.token_ids),
        "token_ids": [t.token_id for t in tokens],
        "reference_token_ids": list(wanted.token_ids),
        "logprobs": [t.logprob for t in tokens],
        "reference_logprobs": list(wanted.logprobs),
    }
