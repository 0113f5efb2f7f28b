"""Logprobs in responses: OpenAI's ``logprobs`` of completions and echoed prompts, and vLLM's ``prompt_logprobs``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from engine.entrypoints.server.forms import for_json
from engine.entrypoints.server.responses import CompletionLogprobs, PromptLogprob
from engine.request import CompletionOutput, Logprob, PromptLogprobs
from engine.sequence import TextStream
from engine.tokenizer import Tokenizer


@dataclass(frozen=True)
class Echo:
    """The text and the tokens of a prompt, if the response repeats the prompt before the answer (``echo``)."""

    text: str
    token_ids: Sequence[int]


class LogprobLists:
    """Creates OpenAI's ``logprobs`` of one answer, either for the whole answer or delta by delta.

    ``echo`` has the prompt if the response repeats it before the answer, else it is None.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool, echo: Echo | None) -> None:
        self._tokenizer = tokenizer
        self._echo = echo
        self._offsets = TextOffsets(tokenizer, skip_special_tokens, len(echo.text) if echo else 0)

    def of(self, output: CompletionOutput, *, prompt_alone: bool = False) -> CompletionLogprobs | None:
        """Return the logprobs of ``output``, a whole answer or the next delta of one; None if ``output`` has none.

        With ``echo``, the first call also returns the logprobs of the prompt, before the logprobs of the answer. With
        ``prompt_alone`` the logprobs of the answer are left out.
        """
        if output.logprobs is None:
            return None
        found = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
        if self._echo is not None and output.prompt_logprobs is not None:
            offsets = TextOffsets(self._tokenizer, skip_special_tokens=False)
            self._extend(found, self._echo.token_ids, output.prompt_logprobs, offsets)
        if not prompt_alone:
            self._extend(found, output.token_ids, output.logprobs, self._offsets)
        return found

    def _extend(
        self, lists: CompletionLogprobs, token_ids: Sequence[int], positions: PromptLogprobs, offsets: "TextOffsets"
    ) -> None:
        for token_id, position in zip(token_ids, positions, strict=True):
            lists.text_offset.append(offsets.next(token_id))
            lists.top_logprobs.append(None if position is None else _by_text(token_id, position))
            lists.token_logprobs.append(None if position is None else for_json(position[token_id].logprob))
            lists.tokens.append(self._tokenizer.decode([token_id], skip_special_tokens=False))


class TextOffsets:
    """Computes, token by token, at which offset in the text of a response each token begins.

    ``begin`` is the offset of the first token. Tokens are decoded together, not one by one, because several tokens may
    form one character.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool, begin: int = 0) -> None:
        self._stream = TextStream(partial(tokenizer.decode, skip_special_tokens=skip_special_tokens))
        self._begin = begin

    def next(self, token_id: int) -> int:
        """Add a token and return the offset, in characters, at which it begins."""
        offset = self._begin + len(self._stream.text)
        self._stream.push(token_id)
        return offset


def _by_text(token_id: int, position: Mapping[int, Logprob]) -> dict[str, float]:
    """Return the logprobs of one position by the text of their tokens. ``token_id`` is the token at this position.

    Several tokens may have the same text, for example tokens that are single bytes of a character. Then the text gets
    the logprob of the last of them, as in vLLM (``vllm.entrypoints.openai.completion.serving``). The token itself
    counts as the first, and the others follow in the order of their ranks.
    """
    others = (entry for other, entry in position.items() if other != token_id)
    return {entry.decoded_token: for_json(entry.logprob) for entry in (position[token_id], *others)}


def prompt_list(found: PromptLogprobs | None) -> list[dict[int, PromptLogprob] | None] | None:
    """Return the logprobs of a prompt in the format of vLLM's ``prompt_logprobs``: by token id, with rank and text."""
    if found is None:
        return None
    return [None if position is None else {t: _entry(entry) for t, entry in position.items()} for position in found]


def _entry(entry: Logprob) -> PromptLogprob:
    return PromptLogprob(logprob=for_json(entry.logprob), rank=entry.rank, decoded_token=entry.decoded_token)
