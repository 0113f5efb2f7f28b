"""Apply the logits processors of a request, such as penalties, to the logits of the Hugging Face reference.

A logits processor of Hugging Face is used if it computes the same as that of vLLM. The others are implemented in this
module. The order is vLLM's: allowed tokens, bad words, tokens that would end the request before ``min_tokens``, logit
bias, repetition penalty, and then the frequency and presence penalties.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from harness.references.values import NO_PROCESSORS, Wanted


def processed(logits: Any, wanted: Sequence[Wanted], generated: Sequence[Sequence[int]]) -> Any:
    """Return the logits as they are after the logits processors of each row's request were applied.

    ``logits`` are float32 ``[rows, vocabulary]`` and are not modified. ``wanted`` and ``generated`` have an entry for
    each row: its request, and the tokens generated for it so far.
    """
    changed = logits
    for row, (each, tokens) in enumerate(zip(wanted, generated, strict=True)):
        if each.processors != NO_PROCESSORS or (each.forbidden and len(tokens) < each.forbidden_until):
            changed = logits.clone() if changed is logits else changed
            changed[row] = _row(changed[row], each, list(tokens))
    return changed


def _row(logits: Any, wanted: Wanted, generated: list[int]) -> Any:
    import torch
    from transformers import RepetitionPenaltyLogitsProcessor, SuppressTokensLogitsProcessor

    use, size = wanted.processors, logits.shape[0]
    forbidden = {words[-1] for words in use.bad_words if list(words[:-1]) == _last(generated, len(words) - 1)}
    if use.allowed_token_ids is not None:
        forbidden |= set(range(size)) - set(use.allowed_token_ids)
    if len(generated) < wanted.forbidden_until:
        ends = {token for token in wanted.forbidden if token < size}
        # When the answer is complete, the constraint allows only EOS, so EOS is chosen even before min_tokens.
        if wanted.structure is None or set(logits.isfinite().nonzero().flatten().tolist()) - ends:
            forbidden |= ends
    ids, scores = torch.tensor([[*wanted.prompt_token_ids, *generated]]), logits[None]
    if forbidden:
        scores = SuppressTokensLogitsProcessor(sorted(forbidden))(ids, scores)
    scores = scores + _on_the_vocabulary(use.logit_bias, size)
    if use.repetition_penalty != 1:
        scores = RepetitionPenaltyLogitsProcessor(use.repetition_penalty)(ids, scores)
    # OpenAI's definition: logit - count x frequency_penalty - (count > 0) x presence_penalty, where count is how often
    # the token was generated before.
    counts = torch.bincount(torch.tensor(generated, dtype=torch.int64), minlength=size).float()
    return (scores - counts * use.frequency_penalty - (counts > 0) * use.presence_penalty)[0]


def _last(tokens: list[int], count: int) -> list[int]:
    return tokens[len(tokens) - count :] if 0 < count <= len(tokens) else ([] if count == 0 else [-1])


def _on_the_vocabulary(pairs: Iterable[tuple[int, float]], size: int) -> Any:
    import torch

    values = torch.zeros(size)
    for token, value in pairs:
        values[token] = value
    return values
