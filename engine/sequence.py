"""The state of a request in the engine core: its tokens, its text if it has stop strings, and why it ended."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from engine.request import FinishReason, Request, TokenOutput

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

Decode = Callable[[Sequence[int]], str]
UNFINISHED_CHARACTER = "\N{REPLACEMENT CHARACTER}"


class Grammar(Protocol):
    """The interface of the grammar of one request, with its state after the tokens generated so far.

    Implemented in engine/grammars.py. ``error`` is empty as long as the grammar accepts tokens. Otherwise it says
    after how many tokens and why: a limit of llguidance was reached, or the grammar did not allow a token.
    """

    error: str

    def allowed(self) -> "NDArray[numpy.bool_] | None":
        """Return which tokens may come next, as bool ``[vocabulary]``; None after EOS, where any token may come."""

    def accept(self, token_id: int) -> None:
        """Record that ``token_id`` was generated, and set ``error`` if the grammar cannot accept it."""


class TextStream:
    """The text of a growing list of tokens. ``push`` decodes only the last tokens, not all tokens each time.

    ``is_whole`` is False while the last tokens form only a part of a character, which ``text`` does not have yet.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._window = 0
        self._read = 0
        self.text = ""
        self.is_whole = True

    def push(self, token_id: int) -> str:
        """Add a token and return the text that it adds; empty while a character is incomplete."""
        self._ids.append(token_id)
        before = self._decode(self._ids[self._window : self._read])
        after = self._decode(self._ids[self._window :])
        self.is_whole = not after.endswith(UNFINISHED_CHARACTER)
        if len(after) <= len(before) or not self.is_whole:
            return ""
        self._window, self._read = self._read, len(self._ids)
        added = after[len(before) :]
        self.text += added
        return added


class SequenceState:
    """The state of a request, with everything that an executor needs to run it and to sample its tokens.

    The request ends with the finish reason ``length`` at ``max_tokens``, or when its prompt and generated tokens
    together reach ``max_model_len`` (docs/scheduling-rules.md, "One step", 4). It ends with ``error`` if its grammar
    accepts no further tokens. ``generator`` is the request's random generator, which the sampler creates at its first
    use. ``grammar`` is the grammar of the request's structured outputs; the core sets it. No two requests share a
    generator or a grammar, and neither changes while a request waits, is paused or is preempted. So the tokens of a
    request do not depend on the other requests in the batch. ``prompt_tokens`` maps positions of the prompt to the
    tokens there with their logprobs; it stays empty if no ``prompt_logprobs`` are requested.
    """

    __slots__ = (
        "_ending_token_ids",
        "_eos_token_ids",
        "_max_tokens",
        "_may_stop_early",
        "_stop_at",
        "_stream",
        "finish_reason",
        "generator",
        "grammar",
        "params",
        "prompt_tokens",
        "request",
        "stop_reason",
        "tokens",
    )

    def __init__(
        self, request: Request, eos_token_ids: frozenset[int], decode: Decode | None, max_model_len: int
    ) -> None:
        self.request = request
        self.params = request.sampling_params
        self.tokens: list[TokenOutput] = []
        self.finish_reason: FinishReason | None = None
        self.stop_reason: int | str | None = None
        self._stop_at = 0  # the index in the text at which the stop string begins that ended the request
        self.generator: object | None = None
        self.grammar: Grammar | None = None
        self.prompt_tokens: dict[int, TokenOutput] = {}
        self._ending_token_ids = frozenset(self.params.stop_token_ids)
        self._eos_token_ids = frozenset() if self.params.ignore_eos else eos_token_ids
        self._stream = TextStream(decode) if decode and self.params.stop_strings else None
        # A prompt that fills the context still gets the token that its prefill yields.
        self._max_tokens = min(request.max_tokens, max(1, max_model_len - len(request.prompt_token_ids)))
        self._may_stop_early = bool(self._ending_token_ids or self._eos_token_ids or self._stream)

    @property
    def token_ids(self) -> list[int]:
        """Return the token ids of the prompt and of all generated tokens."""
        return [*self.request.prompt_token_ids, *self.output_token_ids]

    def token_ids_between(self, start: int, stop: int) -> tuple[int, ...]:
        """Return the token ids at positions ``start`` to ``stop`` - 1, counted from the start of the prompt."""
        prompt = self.request.prompt_token_ids
        if stop <= len(prompt):
            return prompt[start:stop]
        first = max(0, start - len(prompt))
        generated = tuple([token.token_id for token in self.tokens[first : stop - len(prompt)]])
        return prompt[start:] + generated

    @property
    def skip_reading_prefix_cache(self) -> bool:
        """Return whether the whole prompt must be computed, without cached blocks, because its logprobs are requested.

        vLLM has the same rule.
        """
        return self.params.prompt_logprobs is not None

    @property
    def wants_logprobs_of_its_prompt(self) -> bool:
        """Return whether logprobs of the prompt are requested and some of them are not computed yet.

        The first token of a prompt has no logprob.
        """
        if self.params.prompt_logprobs is None:
            return False
        return len(self.prompt_tokens) < len(self.request.prompt_token_ids) - 1

    @property
    def output_token_ids(self) -> tuple[int, ...]:
        return tuple(token.token_id for token in self.tokens)

    @property
    def forbidden_token_ids(self) -> frozenset[int]:
        """Return the token ids that must not be sampled now: they would end the request before ``min_tokens``."""
        if len(self.tokens) < self.params.min_tokens:
            return self._ending_token_ids | self._eos_token_ids
        return frozenset()

    @property
    def golden_token_id(self) -> int | None:
        """Return the golden token that replaces the next sampled token; None if no golden token is left."""
        golden, done = self.params.golden_token_ids, len(self.tokens)
        return golden[done] if done < len(golden) else None

    def append(self, token: TokenOutput) -> bool:
        """Append a sampled token and return whether the request ends with it."""
        tokens = self.tokens
        tokens.append(token)
        if self.grammar is not None and self._broke_its_grammar(token.token_id):
            return True
        if self._may_stop_early:
            self._look_for_a_stop(token.token_id)
            if self.finish_reason is not None:
                return True
        if len(tokens) < self._max_tokens:
            return False
        self.finish_reason = FinishReason.LENGTH
        return True

    def _broke_its_grammar(self, token_id: int) -> bool:
        """Advance the grammar by one token. If the grammar fails, end the request with ``error`` and return True."""
        assert self.grammar is not None
        self.grammar.accept(token_id)
        if self.grammar.error:
            self.finish_reason, self.stop_reason = FinishReason.ERROR, None
        return bool(self.grammar.error)

    def _look_for_a_stop(self, token_id: int) -> None:
        found = self._stop_string(token_id)
        if len(self.tokens) < self.params.min_tokens:
            return
        if token_id in self._eos_token_ids:
            self.finish_reason = FinishReason.STOP
        elif token_id in self._ending_token_ids:
            self.finish_reason, self.stop_reason = FinishReason.STOP, token_id
        elif found is not None and len(self.tokens) > self.params.min_tokens:
            self.finish_reason = FinishReason.STOP
            self._stop_at, self.stop_reason = found

    def text(self, decode: Decode) -> str:
        """Return the text so far, without the stop string or stop token that ended the request.

        With ``include_stop_str_in_output``, the text includes that string or token.
        """
        ids = self.output_token_ids
        keep_stop = self.params.include_stop_str_in_output
        ended_by_token = self.finish_reason is FinishReason.STOP and not isinstance(self.stop_reason, str)
        if ended_by_token and not keep_stop:
            ids = ids[:-1]
        text = decode(ids)
        if isinstance(self.stop_reason, str):
            return text[: self._stop_at + len(self.stop_reason) if keep_stop else self._stop_at]
        return text

    def _stop_string(self, token_id: int) -> tuple[int, str] | None:
        """Return (index in the text, stop string) if the new token completes a stop string, else None.

        If the token completes several stop strings, the one that begins earliest is returned.
        """
        if self._stream is None:
            return None
        added = self._stream.push(token_id)
        text, found = self._stream.text, []
        for stop in self.params.stop_strings:
            at = text.find(stop, max(0, len(text) - len(added) - len(stop) + 1))
            if added and at >= 0:
                found.append((at, stop))
        return min(found, default=None)
