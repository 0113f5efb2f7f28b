"""Mutations of the in-process entry points, each with the behaviour case that must detect it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from engine.entrypoints import async_llm, deltas, prompts
from engine.entrypoints.async_llm import AsyncLLM
from engine.entrypoints.engine_thread import EngineThread
from engine.entrypoints.output_queue import OutputQueue, RequestOutputCollector
from engine.entrypoints.validation import admit
from engine.sequence import SequenceState
from tests.harness.mutations.registry import Mutation, mutation

CLIENT_MUTATIONS: list[Mutation] = []
client_mutation = partial(mutation, CLIENT_MUTATIONS)


@client_mutation("a-client-goes-away-while-its-request-runs", "was met too late: stayer had")
def let_requests_run_on_when_clients_leave(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AsyncLLM, "_close", lambda self, collector: self._open.pop(collector) and None)


@client_mutation("a-client-goes-away-while-its-request-waits", "waiting 0")
def abort_only_what_runs_at_the_client(patch: pytest.MonkeyPatch) -> None:
    abort = EngineThread.abort

    def running_only(self: EngineThread, request_ids: Any) -> Any:
        return abort(self, [name for name in request_ids if name in self.seen.running])

    patch.setattr(EngineThread, "abort", running_only)


@client_mutation("an-aborted-request-says-so", "finish reasons")
def abort_without_a_word(patch: pytest.MonkeyPatch) -> None:
    progressed = OutputQueue.progressed

    def silent(self: OutputQueue, sequence: SequenceState) -> None:
        if str(sequence.finish_reason) == "abort":
            sequence.finish_reason = "length"  # type: ignore[assignment]
        progressed(self, sequence)

    patch.setattr(OutputQueue, "progressed", silent)


@client_mutation("a-stream-adds-up-to-the-whole-answer", "Hugging Face's is")
def lose_a_chunk_of_a_stream(patch: pytest.MonkeyPatch) -> None:
    put, seen = RequestOutputCollector._put, []

    def lossy(self: RequestOutputCollector, delta: Any) -> None:
        seen.append(delta)
        put(self, replace(delta, text="") if len(seen) == 3 else delta)

    patch.setattr(RequestOutputCollector, "_put", lossy)


@client_mutation("text-that-only-began-like-a-stop-string-comes-at-the-end", "Hugging Face's is")
def lose_text_that_was_held_back(patch: pytest.MonkeyPatch) -> None:
    new_text = deltas.DeltaMaker._new_text

    def forgetful(self: deltas.DeltaMaker, sequence: SequenceState) -> str:
        held = deltas.held_back(self._stream.text, sequence.params.stop_strings)
        text = new_text(self, sequence)
        return text[: len(text) - held] if sequence.finish_reason == "length" else text

    patch.setattr(deltas.DeltaMaker, "_new_text", forgetful)


@client_mutation("three-kinds-of-output-agree", "texts")
def send_a_chunk_of_a_stream_twice(patch: pytest.MonkeyPatch) -> None:
    new = deltas.DeltaMaker._new_text

    def stuttering(self: deltas.DeltaMaker, sequence: SequenceState) -> str:
        text = new(self, sequence)
        return text * 2 if len(sequence.tokens) == 5 else text

    patch.setattr(deltas.DeltaMaker, "_new_text", stuttering)


@client_mutation("a-stop-string-is-no-part-of-the-answer", "Hugging Face's is")
def give_out_what_a_stop_string_cuts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deltas, "held_back", lambda text, stops: 0)


@client_mutation("the-longest-beginning-of-a-stop-string-is-held-back", "Hugging Face's is")
def hold_back_the_shortest_beginning_of_a_stop_string(patch: pytest.MonkeyPatch) -> None:
    def shortest(text: str, stops: Sequence[str]) -> int:
        return next((n for n in range(1, len(text)) if any(stop.startswith(text[-n:]) for stop in stops)), 0)

    patch.setattr(deltas, "held_back", shortest)


@client_mutation("a-stream-whose-first-token-is-held-back-has-the-logprobs-of-its-prompt", "prompt has 0 logprobs")
def give_the_logprobs_of_the_prompt_with_the_first_token_only(patch: pytest.MonkeyPatch) -> None:
    delta = deltas.DeltaMaker.delta

    def first_only(self: deltas.DeltaMaker, sequence: SequenceState) -> Any:
        made = delta(self, sequence)
        return made if len(sequence.tokens) == 1 else replace(made, prompt_logprobs=None)

    patch.setattr(deltas.DeltaMaker, "delta", first_only)


@client_mutation("the-end-of-text-ends-an-answer", "finish reasons ['length']")
def end_always_for_length(patch: pytest.MonkeyPatch) -> None:
    look = SequenceState._look_for_a_stop

    def mislabelled(self: SequenceState, token_id: int) -> None:
        look(self, token_id)
        if self.finish_reason is not None:
            self.finish_reason = type(self.finish_reason)("length")

    patch.setattr(SequenceState, "_look_for_a_stop", mislabelled)


@client_mutation("two-samples-at-temperature-one", "token counts")
def answer_once_whatever_n(patch: pytest.MonkeyPatch) -> None:
    requests_for = prompts.requests_for
    patch.setattr(async_llm, "requests_for", lambda name, prompt: requests_for(name, prompt)[:1])


@client_mutation("the-same-seed-gives-the-same-samples", "but those of before are")
def draw_from_one_source_for_all(patch: pytest.MonkeyPatch) -> None:
    requests_for = prompts.requests_for
    taken = iter(range(1000))

    def shifted(name: str, prompt: prompts.Admitted) -> Any:
        params = prompt.params
        seed = None if params.seed is None else params.seed + next(taken)
        return requests_for(name, prompt._replace(params=replace(params, seed=seed)))

    patch.setattr(async_llm, "requests_for", shifted)


@client_mutation("a-full-queue-refuses-and-recovers", "expected an error")
def take_requests_without_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AsyncLLM, "unfinished", 0)


@client_mutation("a-padded-prompt-and-its-budget-must-fit-the-context", "expected an error")
def check_the_context_without_padding(patch: pytest.MonkeyPatch) -> None:
    def lax(length: int, params: Any, max_model_len: int) -> Any:
        return admit(length - length % 64 or 1, params, max_model_len)

    patch.setattr(prompts, "admit", lax)


@client_mutation("two-clients-get-the-text-of-one", "but those of alone are")
def hand_out_the_first_clients_text_to_all(patch: pytest.MonkeyPatch) -> None:
    delta, boxes = deltas.DeltaMaker.delta, []

    def mixed(self: deltas.DeltaMaker, sequence: SequenceState) -> Any:
        made = delta(self, sequence)
        boxes.append(made)
        return replace(made, text=boxes[len(boxes) // 2].text)

    patch.setattr(deltas.DeltaMaker, "delta", mixed)


@client_mutation("exact-counts-at-the-edges-of-blocks", "token counts")
def give_one_token_more(patch: pytest.MonkeyPatch) -> None:
    def generous(length: int, params: Any, max_model_len: int) -> Any:
        return admit(length, replace(params, max_tokens=params.max_tokens + 1), max_model_len)

    patch.setattr(prompts, "admit", generous)


def as_table() -> str:
    """Return the table of these mutations for docs/behaviour.md, as Markdown."""
    lines = ["| the client would … | caught by | the failure says |", "| --- | --- | --- |"]
    lines += [f"| {mutation.name} | `{mutation.caught_by}` | {mutation.message} |" for mutation in CLIENT_MUTATIONS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_table(), end="")
