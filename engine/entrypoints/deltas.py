"""Deltas of an answer: the text and tokens that each step adds. All deltas of an answer together are the answer.

Text that was sent to a client cannot be taken back. So a delta does not include an incomplete character, nor text that
may be the beginning of a stop string, because stop strings are cut from the answer. Tokens are held back together with
their text: a client that has received a token has also received its text.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from engine.entrypoints.completion import logprob_entries, prompt_entries, whole_text
from engine.request import CompletionOutput, TokenOutput
from engine.sequence import SequenceState, TextStream
from engine.tokenizer import Tokenizer


class DeltaMaker:
    """Creates the deltas of one sequence, in the order of its tokens. ``index`` is the number of the answer."""

    def __init__(self, index: int, tokenizer: Tokenizer, *, skip_special_tokens: bool) -> None:
        self._index = index
        self._tokenizer = tokenizer
        self._stream = TextStream(partial(tokenizer.decode, skip_special_tokens=skip_special_tokens))
        self._tokens_seen = 0
        self._text_given = 0
        self._incomplete: list[TokenOutput] = []
        self._held: deque[tuple[int, TokenOutput]] = deque()
        self._logprob = 0.0
        self._prompt_given = False

    def delta(self, sequence: SequenceState) -> CompletionOutput:
        """Return the text, tokens and logprobs that the answer has gained since the last call.

        ``cumulative_logprob`` of the result is the sum over all tokens of the answer so far. The logprobs of the prompt
        are in every result until one is not empty, and in that one. OutputQueue does not pass on empty results, so a
        client receives these logprobs once.
        """
        self._read(sequence)
        text = self._new_text(sequence)
        new = self._new_tokens(sequence)
        self._logprob += sum(token.logprob or 0.0 for token in new)
        prompt = None if self._prompt_given else prompt_entries(sequence, self._tokenizer)
        wants_logprobs = sequence.params.logprobs is not None
        delta = CompletionOutput(
            index=self._index,
            text=text,
            token_ids=tuple(token.token_id for token in new),
            cumulative_logprob=self._logprob if wants_logprobs else None,
            logprobs=logprob_entries(new, self._tokenizer) if wants_logprobs else None,
            finish_reason=sequence.finish_reason,
            stop_reason=sequence.stop_reason,
            prompt_logprobs=prompt,
        )
        self._prompt_given = self._prompt_given or not delta.is_empty
        return delta

    def _read(self, sequence: SequenceState) -> None:
        """Store new tokens until ``_new_tokens`` returns them.

        Each token is stored with the length of the answer's text up to the end of the token. A token that ends within a
        character gets this length when a later token completes the character.
        """
        for token in sequence.tokens[self._tokens_seen :]:
            self._stream.push(token.token_id)
            self._incomplete.append(token)
            if self._stream.is_whole:
                self._held.extend((len(self._stream.text), each) for each in self._incomplete)
                self._incomplete.clear()
        self._tokens_seen = len(sequence.tokens)

    def _new_tokens(self, sequence: SequenceState) -> list[TokenOutput]:
        """Return the tokens that no earlier delta has, and whose whole text is in this delta or in earlier ones.

        If the request has ended, return all tokens that no earlier delta has. The text of some of them may be missing
        from the answer, because a stop string is cut off.
        """
        new = []
        while self._held and (sequence.finish_reason is not None or self._held[0][0] <= self._text_given):
            new.append(self._held.popleft()[1])
        if sequence.finish_reason is not None:
            new += self._incomplete
            self._incomplete = []
        return new

    def _new_text(self, sequence: SequenceState) -> str:
        if sequence.finish_reason is not None:
            text = whole_text(sequence, self._tokenizer)
            end = len(text)
        else:
            text = self._stream.text
            end = len(text) - held_back(text, sequence.params.stop_strings)
        new = text[self._text_given : end]
        self._text_given = max(self._text_given, end)
        return new


def held_back(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of ``text`` could be the beginning of a stop string."""
    most = min(max(map(len, stops), default=1) - 1, len(text))
    for length in range(most, 0, -1):
        end = text[-length:]
        if any(stop.startswith(end) for stop in stops if len(stop) > length):
            return length
    return 0


def merged(earlier: CompletionOutput, later: CompletionOutput) -> CompletionOutput:
    """Return one delta for two consecutive deltas of an answer."""
    both = earlier.logprobs is not None and later.logprobs is not None
    return replace(
        later,
        text=earlier.text + later.text,
        token_ids=earlier.token_ids + later.token_ids,
        logprobs=(*(earlier.logprobs or ()), *(later.logprobs or ())) if both else None,
        prompt_logprobs=earlier.prompt_logprobs,
    )
