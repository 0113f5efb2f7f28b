"""Logits processors: apply a request's parameters to its row of logits before a token is chosen.

The order is vLLM's (``apply_logits_processors`` of ``vllm.v1.sample.sampler``): ``allowed_token_ids``, ``bad_words``,
``min_tokens``, ``logit_bias``, then the penalties for repetition, frequency and presence. Temperature, min-p, top-k and
top-p come afterwards. Greedy requests are processed too. Logprobs are computed from the logits before these processors,
but after the masks of engine/model/grammar_masks.py.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from engine.request import SamplingParams
from engine.sequence import SequenceState


def processed(logits: Tensor, sequences: Sequence[SequenceState]) -> Tensor:
    """Return ``logits`` (float32, ``[rows, vocabulary]``) after the parameters of each row's request were applied.

    ``logits`` is not modified. If no request changes its row, the same tensor is returned.
    """
    rows = [row for row, sequence in enumerate(sequences) if _changes_now(sequence)]
    if not rows:
        return logits
    logits = logits.clone()
    for row in rows:
        _process(logits[row], sequences[row])
    return logits


def _changes_now(sequence: SequenceState) -> bool:
    return sequence.params.changes_logits or bool(sequence.forbidden_token_ids)


def _process(logits: Tensor, sequence: SequenceState) -> None:
    """Apply the parameters of a request to its row of logits (``[vocabulary]``), in place."""
    params, generated = sequence.params, sequence.output_token_ids
    if params.allowed_token_ids is not None:
        forbidden = torch.ones_like(logits, dtype=torch.bool)
        forbidden[list(params.allowed_token_ids)] = False
        logits.masked_fill_(forbidden, -torch.inf)
    _forbid(logits, completing(params.bad_words_token_ids, generated))
    _forbid_ends(logits, sequence)
    for token_id, bias in params.biases:
        logits[token_id] += bias
    if params.repetition_penalty != 1:
        penalise_repetition(logits, {*sequence.request.prompt_token_ids, *generated}, params.repetition_penalty)
    if params.frequency_penalty or params.presence_penalty:
        penalise_generated(logits, generated, params)


def completing(bad_words: Sequence[tuple[int, ...]], generated: Sequence[int]) -> set[int]:
    """Return the tokens that would complete one of ``bad_words`` after the ``generated`` tokens.

    The tokens of the prompt do not count. Source: ``vllm.v1.sample.ops.bad_words``.
    """
    found = set()
    for *beginning, last in bad_words:
        length = len(beginning)
        if length <= len(generated) and list(generated[len(generated) - length :]) == beginning:
            found.add(last)
    return found


def _forbid(logits: Tensor, token_ids: Iterable[int]) -> None:
    inside = [token_id for token_id in token_ids if 0 <= token_id < logits.shape[0]]
    if inside:
        logits[inside] = -torch.inf


def _forbid_ends(logits: Tensor, sequence: SequenceState) -> None:
    """Forbid the tokens that would end the request before ``min_tokens``, in place.

    If the request's grammar allows no other tokens, forbid nothing.
    """
    ends = sequence.forbidden_token_ids
    if ends and sequence.grammar is not None:
        others = [token_id for token_id in logits.isfinite().nonzero().flatten().tolist() if token_id not in ends]
        if not others:
            return
    _forbid(logits, ends)


def penalise_repetition(logits: Tensor, token_ids: set[int], penalty: float) -> None:
    """Divide positive and multiply negative logits of ``token_ids`` by ``penalty``, in place.

    The definition is that of Hugging Face's RepetitionPenaltyLogitsProcessor: ``token_ids`` are the different tokens of
    the prompt and the answer, and how often they occur has no effect.
    """
    places = torch.tensor(sorted(token_ids))
    some = logits[places]
    logits[places] = torch.where(some > 0, some / penalty, some * penalty)


def penalise_generated(logits: Tensor, generated: Sequence[int], params: SamplingParams) -> None:
    """Subtract ``frequency_penalty`` for each time a token was generated and ``presence_penalty`` once, in place.

    The definition is OpenAI's: tokens of the prompt are not penalised.
    """
    counts = Counter(generated)
    if counts:
        places, times = torch.tensor(list(counts)), torch.tensor([float(count) for count in counts.values()])
        logits[places] -= params.frequency_penalty * times + params.presence_penalty
