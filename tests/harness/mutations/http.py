"""Mutations of the HTTP server, each with the behaviour case that must detect it."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any

import pytest

from engine import grammars
from engine.entrypoints import deltas
from engine.entrypoints.async_llm import AsyncLLM
from engine.entrypoints.output_queue import RequestOutputCollector
from engine.entrypoints.server import app, chat, completions, errors, forms, job, logprob_lists, sampling
from engine.entrypoints.server.completions import CompletionForm
from engine.entrypoints.server.errors import ApiError, try_again
from engine.entrypoints.server.job import Fields, Job
from engine.entrypoints.server.logprob_lists import LogprobLists, TextOffsets
from engine.entrypoints.server.metrics import Metrics
from engine.entrypoints.server.requests import CompletionRequest
from engine.entrypoints.server.responses import ChatDelta, CompletionLogprobs, PromptLogprob
from engine.request import CompletionOutput, FinishReason, Logprob, SamplingParams, TokenOutput
from engine.sequence import SequenceState
from engine.structured_outputs import StructuredOutputsParams
from tests.harness.mutations.parameters import CASES
from tests.harness.mutations.registry import Mutation, Patch, mutation

HTTP_MUTATIONS: list[Mutation] = []
http_mutation = partial(mutation, HTTP_MUTATIONS)


@http_mutation("usage-counts-the-token-that-ends-an-answer", "is (4, 13), expected (4, 14)")
def count_all_tokens_but_the_one_that_ends_an_answer(patch: pytest.MonkeyPatch) -> None:
    def tokens_in(outputs: Sequence[CompletionOutput]) -> int:
        return sum(len(output.token_ids) - (output.finish_reason == "stop") for output in outputs)

    patch.setattr(completions, "tokens_in", tokens_in)


@http_mutation("all-answers-of-a-client-that-leaves-are-aborted", "aborted_requests")
def abort_only_the_first_answer_of_a_client_that_leaves(patch: pytest.MonkeyPatch) -> None:
    close = AsyncLLM._close

    def partly(self: AsyncLLM, collector: RequestOutputCollector) -> None:
        request_id, request_ids = self._open[collector]
        self._open[collector] = request_id, request_ids[:1]
        close(self, collector)

    patch.setattr(AsyncLLM, "_close", partly)


@http_mutation("prompts-of-several-answers-to-several-prompts", "choices[*].prompt_token_ids is")
def give_each_prompt_to_every_second_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Job, "prompt_of", lambda self, index: self.prompts[index % len(self.prompts)])


@http_mutation("usage-of-several-prompts", "usage.prompt_tokens is 3, expected 8")
def count_the_first_prompt_only(patch: pytest.MonkeyPatch) -> None:
    usage = Job.usage
    patch.setattr(Job, "usage", lambda self, tokens: usage(replace(self, prompts=self.prompts[:1]), tokens))


@http_mutation("usage-of-several-prompts", "choices[*].index is")
def number_the_answers_of_each_prompt_from_zero(patch: pytest.MonkeyPatch) -> None:
    choice = CompletionForm._choice

    def renumbered(self: CompletionForm, output: CompletionOutput, text: str) -> Any:
        return choice(self, output, text).model_copy(update={"index": output.index % 2})

    patch.setattr(CompletionForm, "_choice", renumbered)


@http_mutation("a-conversation-as-chunks", "there is no chunks[0].choices[0].delta.role")
def send_no_role_in_a_stream(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(chat, "ChatDelta", lambda content, role=None: ChatDelta(content=content))


@http_mutation("a-conversation-as-chunks", "chunks[*].choices[0].delta.role is")
def send_the_role_in_every_chunk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(chat, "ChatDelta", lambda content, role="assistant": ChatDelta(content=content, role=role))


@http_mutation("positions-of-tokens-in-a-completion", "choices[0].logprobs.text_offset is")
def send_where_a_token_ends_and_not_where_it_begins(patch: pytest.MonkeyPatch) -> None:
    start = TextOffsets.next

    def end(self: TextOffsets, token_id: int) -> int:
        start(self, token_id)
        return len(self._stream.text)

    patch.setattr(TextOffsets, "next", end)


@http_mutation("logprobs-of-a-conversation", "top_logprobs[0].token is")
def leave_out_the_best_alternative(patch: pytest.MonkeyPatch) -> None:
    logprobs = chat._logprobs

    def without(output: CompletionOutput, top: int) -> Any:
        found = logprobs(output, top + 1)
        for entry in found.content if found else ():
            del entry.top_logprobs[0]
        return found

    patch.setattr(chat, "_logprobs", without)


@http_mutation("logprobs-at-the-door", "token 1 has alternative 1 with logprob")
def repeat_the_alternatives_of_the_first_token(patch: pytest.MonkeyPatch) -> None:
    extend = LogprobLists._extend

    def repeating(self: LogprobLists, lists: CompletionLogprobs, *arguments: Any) -> None:
        extend(self, lists, *arguments)
        lists.top_logprobs[1:] = [lists.top_logprobs[0]] * (len(lists.top_logprobs) - 1)

    patch.setattr(LogprobLists, "_extend", repeating)


@http_mutation("alternatives-with-equal-texts", "is [-1.65")
def list_the_first_of_alternatives_with_equal_texts(patch: pytest.MonkeyPatch) -> None:
    def first(token_id: int, position: Mapping[int, Logprob]) -> dict[str, float]:
        entries = (position[token_id], *position.values())
        return {entry.decoded_token: entry.logprob for entry in reversed(entries)}

    patch.setattr(logprob_lists, "_by_text", first)


@http_mutation("ranks-of-the-tokens-of-a-prompt", "rank is [[0], [2], [0]")
def count_ranks_from_zero(patch: pytest.MonkeyPatch) -> None:
    entry = logprob_lists._entry

    def lower(of: Logprob) -> PromptLogprob:
        return entry(of._replace(rank=of.rank and of.rank - 1))

    patch.setattr(logprob_lists, "_entry", lower)


@http_mutation("an-aborted-request-counts-as-aborted", "aborted_requests 0, expected 1")
def count_what_was_aborted_as_ended_for_its_length(patch: pytest.MonkeyPatch) -> None:
    ended = Metrics.ended

    def mild(self: Metrics, request_id: str, reason: FinishReason) -> None:
        ended(self, request_id, FinishReason.LENGTH if reason is FinishReason.ABORT else reason)

    patch.setattr(Metrics, "ended", mild)


@http_mutation("a-client-leaves-that-waits-for-a-whole-answer", "aborted_requests 0, expected 2")
def finish_a_whole_answer_whose_client_has_left(patch: pytest.MonkeyPatch) -> None:
    whole = app._whole

    async def shielded(*arguments: Any) -> Any:
        return await asyncio.shield(whole(*arguments))

    patch.setattr(app, "_whole", shielded)


@http_mutation("a-stream-of-chunks", "one_id is false")
def give_every_chunk_an_id(patch: pytest.MonkeyPatch) -> None:
    response = CompletionForm._response

    def renamed(self: CompletionForm, *arguments: Any) -> Any:
        return response(self, *arguments).model_copy(update={"id": f"cmpl-{uuid.uuid4().hex}"})

    patch.setattr(CompletionForm, "_response", renamed)


@http_mutation("a-stream-of-chunks", "done is false")
def end_a_stream_without_its_last_event(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forms, "DONE", "")


@http_mutation("a-full-queue-says-when-to-try-again", "the header Retry-After is missing")
def refuse_without_a_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(errors, "try_again", lambda status, message, code: ApiError(status, message, code=code))


@http_mutation("a-completion-without-max-tokens", "usage.completion_tokens is 15, expected 16")
def give_fifteen_tokens_by_default(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sampling, "DEFAULT_COMPLETION_TOKENS", 15)


@http_mutation("a-conversation-without-max-tokens", "usage.completion_tokens is 16, expected 64")
def give_a_conversation_the_tokens_of_a_completion(patch: pytest.MonkeyPatch) -> None:
    params = sampling.chat_params

    def short(body: Any) -> SamplingParams:
        made = params(body)
        return replace(made, max_tokens=16) if made.max_tokens is None else made

    patch.setattr(chat, "chat_params", short)


@http_mutation("tokens-of-a-stream-come-with-their-text", "ahead is [")
def send_tokens_before_their_text(patch: pytest.MonkeyPatch) -> None:
    def early(self: deltas.DeltaMaker, sequence: SequenceState) -> list[TokenOutput]:
        new = [*(token for _, token in self._held), *self._incomplete]
        self._held.clear()
        self._incomplete.clear()
        return new

    patch.setattr(deltas.DeltaMaker, "_new_tokens", early)


@http_mutation("an-error-names-the-field", 'error.param is "prompt", expected "stop_token_ids"')
def name_the_prompt_whatever_is_wrong(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fields, "wrong", lambda self, refusal: self.prompt)


def dropping(name: str) -> Patch:
    """Return a patch that makes the server ignore the sampling parameter ``name`` in every request."""

    def patch_it(patch: pytest.MonkeyPatch) -> None:
        params = sampling._params
        default: Any = SamplingParams.__dataclass_fields__[name].default
        patch.setattr(sampling, "_params", lambda *arguments: replace(params(*arguments), **{name: default}))

    patch_it.__name__ = f"drop_{name}"
    return patch_it


for _name, _case in CASES.items():
    says = {"include_stop_str_in_output": "expected ' pixels of the width'"}.get(_name, "Hugging Face's is")
    http_mutation(_case, "logprobs, expected" if _name.endswith("logprobs") else says)(dropping(_name))


@http_mutation("an-echo-at-and-beyond-its-bounds", "Hugging Face's is 'Return the number of")
def leave_out_the_text_of_an_echo(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CompletionForm, "_prompt_text", lambda self, index: "")


@http_mutation("an-echo-at-and-beyond-its-bounds", "logprobs, expected")
def leave_out_the_logprobs_of_an_echo(patch: pytest.MonkeyPatch) -> None:
    made = LogprobLists.__init__

    def without(self: LogprobLists, *arguments: Any, echo: object, **more: Any) -> None:
        made(self, *arguments, echo=None, **more)

    patch.setattr(LogprobLists, "__init__", without)


@http_mutation("an-echo-at-and-beyond-its-bounds", "text 0 is 'Return the number of")
def generate_after_a_prompt_that_is_echoed_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CompletionRequest, "echo_alone", property(lambda self: False))
    params = sampling.completion_params

    def one(body: CompletionRequest) -> SamplingParams:
        return params(body.model_copy(update={"max_tokens": body.max_tokens or 1}))

    patch.setattr(completions, "completion_params", one)


@http_mutation("what-is-not-looked-up-is-not-counted", "prefix_queries")
def count_prompts_that_are_not_looked_up(patch: pytest.MonkeyPatch) -> None:
    queued = Metrics.queued

    def all_queued(self: Metrics, request: Any) -> None:
        queued(self, request)
        self._queries.inc(len(request.prompt_token_ids))

    patch.setattr(Metrics, "queued", all_queued)


@http_mutation("a-client-leaves-after-the-first-of-two-answers", "aborted_requests")
def abort_nothing_if_an_answer_is_complete(patch: pytest.MonkeyPatch) -> None:
    close = AsyncLLM._close

    def lax(self: AsyncLLM, collector: RequestOutputCollector) -> None:
        if 0 < collector.unfinished < collector.count:
            self._open.pop(collector)
        else:
            close(self, collector)

    patch.setattr(AsyncLLM, "_close", lax)


@http_mutation("more-answers-than-the-queue-ever-holds", "429")
def tell_the_client_to_try_again_what_never_fits(patch: pytest.MonkeyPatch) -> None:
    def retry(message: str, *details: Any) -> ApiError:
        if "accepts at most" in message:
            return try_again(HTTPStatus.TOO_MANY_REQUESTS, message, "queue_full")
        return errors.bad_request(message, *details)

    patch.setattr(job, "bad_request", retry)


@http_mutation("usage-counts-tokens-without-text", "usage.completion_tokens is 1")
def count_the_tokens_of_sent_chunks_only(patch: pytest.MonkeyPatch) -> None:
    chunk, closing = CompletionForm.chunk, CompletionForm.closing
    sent: list[int] = []

    def counted(self: CompletionForm, delta: CompletionOutput) -> Any:
        sent.append(len(delta.token_ids))
        return chunk(self, delta)

    patch.setattr(CompletionForm, "chunk", counted)
    patch.setattr(CompletionForm, "closing", lambda self, _: closing(self, self._job.usage(sum(sent))))


@http_mutation("every-answer-of-a-stream-echoes-its-prompt", "texts is")
def echo_a_prompt_for_its_first_answers_only(patch: pytest.MonkeyPatch) -> None:
    opening = CompletionForm.opening
    patch.setattr(CompletionForm, "opening", lambda self: list(opening(self))[: len(self._job.prompts)])


@http_mutation("positions-of-tokens-after-a-character-of-two-bytes", "text_offset is")
def count_bytes_in_positions(patch: pytest.MonkeyPatch) -> None:
    after = TextOffsets.next

    def in_bytes(self: TextOffsets, token_id: int) -> int:
        text = self._stream.text
        return after(self, token_id) + len(text.encode()) - len(text)

    patch.setattr(TextOffsets, "next", in_bytes)


@http_mutation("no-additional-properties-in-any-part-of-a-structure", "choices[0].text is")
def allow_more_properties_in_parts_of_an_any_of(patch: pytest.MonkeyPatch) -> None:
    # No two structures are equal, so that the structure is compiled again with the fault, and never found later.
    patch.setattr(StructuredOutputsParams, "__hash__", object.__hash__)
    patch.setattr(StructuredOutputsParams, "__eq__", object.__eq__)
    without = grammars.without_extra_properties
    patch.setattr(
        grammars, "without_extra_properties", lambda schema: schema if isinstance(schema, list) else without(schema)
    )


@http_mutation("golden-tokens-that-are-not-the-most-likely", "choices[0].token_ids is")
def ignore_golden_tokens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SequenceState, "golden_token_id", None)


@http_mutation("logprobs-of-tokens-that-cannot-come", "top_logprobs[1].logprob is")
def send_minus_infinity(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(chat, "for_json", lambda logprob: logprob)


@http_mutation("a-structure-with-other-options-is-another-structure", "choices[0].text is")
def take_structures_with_other_options_for_the_same(patch: pytest.MonkeyPatch) -> None:
    def of(params: StructuredOutputsParams) -> tuple[str, Any]:
        return params.kind, getattr(params, params.kind)

    patch.setattr(StructuredOutputsParams, "__hash__", lambda self: hash(of(self)))
    patch.setattr(StructuredOutputsParams, "__eq__", lambda self, other: of(self) == of(other))


@http_mutation("an-aborted-request-does-not-count-as-paused", "pauses")
def count_what_was_aborted_as_paused(patch: pytest.MonkeyPatch) -> None:
    ended = Metrics.ended

    def keeping(self: Metrics, request_id: str, reason: FinishReason) -> None:
        last = self._last_token.get(request_id)
        ended(self, request_id, reason)
        if reason is FinishReason.ABORT and last is not None:
            self._last_token[request_id] = last

    patch.setattr(Metrics, "ended", keeping)


def as_table() -> str:
    """Return the table of these mutations for docs/behaviour.md, as Markdown."""
    lines = ["| the server would … | caught by | the failure says |", "| --- | --- | --- |"]
    lines += [f"| {each.name} | `{each.caught_by}` | {each.message} |" for each in HTTP_MUTATIONS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_table(), end="")
