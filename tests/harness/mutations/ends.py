"""Mutations of entry points, and of the conditions that end a request."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from engine.core import EngineCore
from engine.entrypoints import async_llm, prompts
from engine.entrypoints.prompts import Admitted
from engine.entrypoints.validation import admit, admit_unpadded
from engine.request import FinishReason, Request, SamplingParams
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from engine.scheduling.continuous.scheduler import ContinuousScheduler
from engine.scheduling.static import StaticScheduler
from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from engine.sequence import UNFINISHED_CHARACTER, SequenceState, TextStream
from engine.tokenizer import Tokenizer
from tests.harness.mutations.registry import budget_output_mutation, end_mutation


def change_params(patch: pytest.MonkeyPatch, change: Callable[[SamplingParams], SamplingParams]) -> None:
    """Replace the sampling parameters of every request by the result of ``change``."""
    made = SequenceState.__init__

    def changed(self: SequenceState, *arguments: Any) -> None:
        made(self, *arguments)
        self.params = change(self.params)

    patch.setattr(SequenceState, "__init__", changed)


def change_reason(patch: pytest.MonkeyPatch, change: Callable[[SequenceState], FinishReason]) -> None:
    append = SequenceState.append

    def changed(self: SequenceState, token: Any) -> bool:
        ends = append(self, token)
        if ends:
            self.finish_reason = change(self)
        return ends

    patch.setattr(SequenceState, "append", changed)


@end_mutation("prompt-that-fits-only-without-its-padding-is-refused", "expected an error")
def let_in_what_fits_without_its_padding(patch: pytest.MonkeyPatch) -> None:
    def unpadded(length: int, params: SamplingParams, most: int) -> SamplingParams:
        return params if length + (params.max_tokens or most) <= most else admit(length, params, most)

    patch.setattr(prompts, "admit", unpadded)


@end_mutation("one-token-over-the-context-is-refused", "expected an error")
def let_in_one_token_too_many(patch: pytest.MonkeyPatch) -> None:
    def lax(length: int, params: SamplingParams, most: int) -> SamplingParams:
        fewer = replace(params, max_tokens=max(1, (params.max_tokens or 2) - 1))
        try:
            admit(length, fewer, most)
        except ValueError:
            return admit(length, params, most)
        return params

    patch.setattr(prompts, "admit", lax)


@end_mutation("padded-prompt-and-budget-fill-the-context-exactly", "refused: Could not add request")
def refuse_what_fits_exactly(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(prompts, "admit", lambda length, params, most: admit(length, params, most - 1))


@end_mutation("min-tokens-holds-off-the-end-of-text-and-not-a-token-longer", "expected [14, 30]")
def hold_off_the_end_one_token_longer(patch: pytest.MonkeyPatch) -> None:
    change_params(patch, lambda params: replace(params, min_tokens=min(params.min_tokens + 1, params.max_tokens or 0)))


@end_mutation("min-tokens-holds-off-a-stop-token-and-not-a-token-longer", "expected [13, 20]")
def hold_off_the_eos_token_only(patch: pytest.MonkeyPatch) -> None:
    def eos_only(self: SequenceState) -> frozenset[int]:
        return self._eos_token_ids if len(self.tokens) < self.params.min_tokens else frozenset()

    patch.setattr(SequenceState, "forbidden_token_ids", property(eos_only))


@end_mutation("min-tokens-holds-off-a-stop-string-that-came-too-early", "expected [26]")
def look_for_stop_strings_from_the_first_token(patch: pytest.MonkeyPatch) -> None:
    change_params(patch, lambda params: replace(params, min_tokens=0) if params.stop_strings else params)


@end_mutation("text-is-cut-before-the-stop-string", "finish reasons")
def report_every_end_as_length(patch: pytest.MonkeyPatch) -> None:
    change_reason(patch, lambda sequence: FinishReason.LENGTH)


@end_mutation("a-stop-at-the-last-token-is-a-stop", "expected ['stop', 'stop', 'length']")
def report_a_stop_at_the_last_token_as_length(patch: pytest.MonkeyPatch) -> None:
    def reason(sequence: SequenceState) -> FinishReason:
        last = len(sequence.tokens) >= sequence.request.max_tokens
        return FinishReason.LENGTH if last else FinishReason.STOP

    change_reason(patch, reason)


@end_mutation("text-is-cut-before-the-stop-string", "expected ' pixels of the width of t'")
def leave_the_text_uncut(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SequenceState, "text", lambda self, decode: decode(self.output_token_ids))


@end_mutation("text-is-cut-before-the-stop-string", "expected [12, 13]")
def find_stop_strings_only_at_the_end_of_the_text(patch: pytest.MonkeyPatch) -> None:
    def at_the_end(self: SequenceState, token_id: int) -> tuple[int, str] | None:
        if self._stream is None:
            return None
        self._stream.push(token_id)
        text, stops = self._stream.text, self.params.stop_strings
        return min(((len(text) - len(stop), stop) for stop in stops if text.endswith(stop)), default=None)

    patch.setattr(SequenceState, "_stop_string", at_the_end)


@end_mutation("the-earliest-of-several-stop-strings-cuts-the-text", "expected ' pixels of the width '")
def cut_at_the_last_of_several_stop_strings(patch: pytest.MonkeyPatch) -> None:
    found = SequenceState._stop_string

    def last(self: SequenceState, token_id: int) -> tuple[int, str] | None:
        if found(self, token_id) is None or self._stream is None:
            return None
        text = self._stream.text
        return max((text.find(stop), stop) for stop in self.params.stop_strings)

    patch.setattr(SequenceState, "_stop_string", last)


@end_mutation("the-token-that-ends-a-request-is-no-part-of-its-text", "expected ' pixels of the width of the screen'")
def keep_the_stop_token_in_the_text(patch: pytest.MonkeyPatch) -> None:
    text = SequenceState.text

    def kept(self: SequenceState, decode: Callable[[Sequence[int]], str]) -> str:
        return text(self, decode) if isinstance(self.stop_reason, str) else decode(self.output_token_ids)

    patch.setattr(SequenceState, "text", kept)


@end_mutation("a-decode-runs-between-two-chunks-of-another-prompt", "request 0 got a token after 6 steps, at most 2")
def compute_a_prompt_in_consecutive_steps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ChunkedScheduler, "_may_interleave", lambda self: not self._paused)


@end_mutation("running-requests-get-a-token-in-every-mixed-step", "at most 1 are allowed")
def schedule_decodes_behind_prompts(patch: pytest.MonkeyPatch) -> None:
    go_on = TokenBudgetScheduler._go_on

    def prompts_first(self: TokenBudgetScheduler, draft: Any) -> None:
        everyone = self._running
        self._running = [s for s in everyone if s.length - s.computed > 1] or everyone
        go_on(self, draft)
        self._running = everyone

    patch.setattr(TokenBudgetScheduler, "_go_on", prompts_first)


@end_mutation("the-stop-string-may-be-part-of-the-text", "expected ' pixels of the width of the scr'")
def leave_out_the_stop_string_in_any_case(patch: pytest.MonkeyPatch) -> None:
    text = SequenceState.text

    def without(self: SequenceState, decode: Callable[[Sequence[int]], str]) -> str:
        self.params = replace(self.params, include_stop_str_in_output=False)
        return text(self, decode)

    patch.setattr(SequenceState, "text", without)


@end_mutation("special-tokens-may-be-part-of-the-text", "Hugging Face's is")
def skip_special_tokens_in_any_case(patch: pytest.MonkeyPatch) -> None:
    decode = Tokenizer.decode
    patch.setattr(Tokenizer, "decode", lambda self, token_ids, **_: decode(self, token_ids, skip_special_tokens=True))


@end_mutation("a-seed-of-zero-is-a-seed", "but those of two are")
def take_seed_zero_of_several_samples_for_none(patch: pytest.MonkeyPatch) -> None:
    made = prompts.requests_for

    def falsy(request_id: str, prompt: Admitted) -> list[Request]:
        token_ids, params = prompt
        several_of_zero = params.n > 1 and not params.seed
        return made(request_id, Admitted(token_ids, replace(params, seed=None) if several_of_zero else params))

    patch.setattr(async_llm, "requests_for", falsy)


@end_mutation("a-stop-string-ends-one-token-before-min-tokens", "the engine generated 8 tokens, Hugging Face 12")
def find_a_stop_string_of_the_token_before_again(patch: pytest.MonkeyPatch) -> None:
    def found(self: SequenceState, token_id: int) -> tuple[int, str] | None:
        if self._stream is None:
            return None
        added = self._stream.push(token_id)
        text = self._stream.text
        begins = [(text.find(stop, max(0, len(text) - len(added) - len(stop))), stop) for stop in self.params.stop]
        return min([(at, stop) for at, stop in begins if at >= 0], default=None)

    patch.setattr(SequenceState, "_stop_string", found)


@end_mutation("a-stop-string-ends-one-token-before-min-tokens", "the engine generated 7 tokens, Hugging Face 12")
def let_a_stop_string_end_a_request_at_min_tokens(patch: pytest.MonkeyPatch) -> None:
    look = SequenceState._look_for_a_stop

    def early(self: SequenceState, token_id: int) -> None:
        with pytest.MonkeyPatch.context() as inner:
            if self.params.stop and self.params.min_tokens == len(self.tokens):
                inner.setattr(self, "params", replace(self.params, min_tokens=0))
            look(self, token_id)

    patch.setattr(SequenceState, "_look_for_a_stop", early)


@end_mutation("a-static-batch-is-aborted-and-the-next-starts", "no request ran, although running was none")
def let_a_static_batch_outlive_the_abort_of_its_requests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StaticScheduler, "abort", ContinuousScheduler.abort)


@budget_output_mutation("a-prompt-as-long-as-the-context-is-refused", "expected an error")
def accept_a_prompt_that_fills_the_context(patch: pytest.MonkeyPatch) -> None:
    def lax(prompt_length: int, params: SamplingParams, max_model_len: int) -> SamplingParams:
        return admit_unpadded(prompt_length, params, max_model_len + 1)

    patch.setattr(prompts, "admit_unpadded", lax)


@end_mutation("aborted-requests-say-so-with-each-scheduler", "finish reasons")
def report_an_abort_of_a_chunked_request_as_its_end(patch: pytest.MonkeyPatch) -> None:
    abort = EngineCore.abort

    def ended(self: EngineCore, request_id: str) -> bool:
        found = abort(self, request_id)
        if found and isinstance(self.scheduler, ChunkedScheduler):
            self.sequences[request_id].finish_reason = FinishReason.LENGTH
        return found

    patch.setattr(EngineCore, "abort", ended)


@end_mutation("a-stop-string-with-a-special-token", "expected [14]")
def look_for_stop_strings_in_the_text_without_special_tokens(patch: pytest.MonkeyPatch) -> None:
    made = SequenceState.__init__

    def plain(self: SequenceState, request: Request, eos: Any, decode: Any, most: int) -> None:
        made(self, request, eos, decode and decode.func, most)

    patch.setattr(SequenceState, "__init__", plain)


@end_mutation("a-stop-string-and-characters-of-several-tokens", "expected 'grö'")
def look_for_stop_strings_in_the_text_of_single_tokens(patch: pytest.MonkeyPatch) -> None:
    def alone(self: TextStream, token_id: int) -> str:
        added = self._decode([token_id])
        self.text += added
        return added

    patch.setattr(TextStream, "push", alone)


@end_mutation("a-stop-string-and-characters-of-several-tokens", "expected 'größer 🙂 a'")
def count_the_tokens_of_a_character_as_characters(patch: pytest.MonkeyPatch) -> None:
    push = TextStream.push

    def counting(self: TextStream, token_id: int) -> str:
        added = push(self, token_id)
        self.text += "" if self.is_whole else UNFINISHED_CHARACTER
        return added

    patch.setattr(TextStream, "push", counting)


@end_mutation("the-end-of-text-as-a-stop-token", "Hugging Face says")
def ignore_eos_among_the_stop_tokens(patch: pytest.MonkeyPatch) -> None:
    made = SequenceState.__init__

    def changed(self: SequenceState, request: Request, eos: frozenset[int], *others: Any) -> None:
        made(self, request, eos, *others)
        if self.params.ignore_eos:
            self._ending_token_ids -= eos

    patch.setattr(SequenceState, "__init__", changed)


@end_mutation("a-stop-string-that-begins-in-the-prompt", "26 of 30 positions are wrong")
def look_for_stop_strings_from_the_prompt_on(patch: pytest.MonkeyPatch) -> None:
    made = SequenceState.__init__

    def changed(self: SequenceState, request: Request, eos: Any, decode: Any, most: int) -> None:
        made(self, request, eos, decode, most)
        if self._stream is not None:
            for token_id in request.prompt_token_ids:
                self._stream.push(token_id)

    patch.setattr(SequenceState, "__init__", changed)
