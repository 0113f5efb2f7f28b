"""Tests of LLM (the offline API) with the built-in model: each request gets the tokens of Hugging Face in any batch."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from checkpoints import resolve
from engine.config import Limits
from engine.core import StepRecord
from engine.entrypoints.llm import LLM
from engine.entrypoints.prompts import Prompt
from engine.entrypoints.validation import RequestRefusedError
from engine.kv_cache.block_pool import OutOfBlocksError
from engine.request import Request, RequestOutput, SamplingParams
from engine.scheduling.plan import Decode, Idle
from tests.helpers.engine import random_tokens, run, step, with_logprobs
from tests.helpers.runners import runner_of

RAGGED = [(1, 70), (63, 3), (64, 1), (65, 40), (130, 20)]
"""Prompt lengths and ``max_tokens`` around block boundaries: prompts longer than tkv, and padding to remove."""


HuggingFace = Callable[[Sequence[int], int], tuple[list[int], torch.Tensor]]


def prompts(shapes: Sequence[tuple[int, int]], seed: int = 0) -> list[Prompt]:
    return [{"prompt_token_ids": random_tokens(length, seed)} for length, _ in shapes]


def greedy(max_tokens: int | None, **params: Any) -> SamplingParams:
    """Return greedy sampling parameters that ignore EOS, so that the request ends at ``max_tokens``, with logprobs."""
    return SamplingParams(**{"temperature": 0, "max_tokens": max_tokens, "ignore_eos": True, "logprobs": 2, **params})


def tokens(outputs: Sequence[RequestOutput]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in output.outputs] for output in outputs]


def logprobs(output: RequestOutput) -> list[float]:
    """Return the logprobs of the chosen tokens."""
    (completion,) = output.outputs
    return [position[token_id].logprob for token_id, position in with_logprobs(completion)]


def generate(llm: LLM, shapes: Sequence[tuple[int, int]], seed: int = 0) -> list[RequestOutput]:
    return llm.generate(prompts(shapes, seed), [greedy(budget) for _, budget in shapes], progress=False)


def is_empty(llm: LLM) -> bool:
    core = llm.engine.core
    return not core.has_work and core.sequences == {} and core.state().n_used_blocks == 0


@pytest.fixture(scope="session")
def hugging_face() -> HuggingFace:
    """Return a function that computes greedy tokens with Hugging Face, and the logprobs of all tokens at each position.

    It runs one request at a time, without a KV cache and without padding.
    """
    model = AutoModelForCausalLM.from_pretrained(resolve("tiny-granite").path, dtype=torch.float32).eval()

    @torch.inference_mode()
    def generate_greedily(prompt: Sequence[int], count: int) -> tuple[list[int], torch.Tensor]:
        ids, rows = list(prompt), []
        for _ in range(count):
            rows.append(model(torch.tensor([ids])).logits[0, -1].log_softmax(dim=-1))
            ids.append(int(rows[-1].argmax()))
        return ids[len(prompt) :], torch.stack(rows)

    return generate_greedily


def test_greedy_tokens_and_logprobs_are_those_of_hugging_face(llm: LLM, hugging_face: HuggingFace) -> None:
    llm.reset(Limits(max_num_seqs=3))
    for (length, budget), output in zip(RAGGED, generate(llm, RAGGED), strict=True):
        wanted, rows = hugging_face(random_tokens(length, 0), budget)
        (completion,) = output.outputs
        assert list(completion.token_ids) == wanted, f"prompt of {length}"
        for row, (_, position) in zip(rows, with_logprobs(completion), strict=True):
            best_two = row.topk(2)
            assert list(position) == best_two.indices.tolist()
            got = [entry.logprob for entry in position.values()]
            assert got == pytest.approx(best_two.values.tolist(), abs=1e-4)
            assert [entry.rank for entry in position.values()] == [1, 2]


def test_the_ragged_workload_does_grow_tkv_and_remove_padding(llm: LLM) -> None:
    llm.reset(Limits(max_num_seqs=3))
    seen: list[StepRecord] = []
    llm.generate(prompts(RAGGED), [greedy(budget) for _, budget in RAGGED], progress=False, on_step=seen.append)
    moves = [after.tkv - before.tkv for before, after in pairwise(seen) if after.tkv]
    assert max(moves) >= 64
    assert min(moves) <= -63
    assert max(len(record.running) for record in seen) == 3


def test_both_attention_operations_give_the_same_tokens(built: Callable[[str], LLM]) -> None:
    shapes = [(1, 6), (65, 3), (100, 5), (3, 2)]
    paged, shipped = (generate(built(attention), shapes) for attention in ("paged", "fms"))
    assert tokens(paged) == tokens(shipped)
    for left, right in zip(paged, shipped, strict=True):
        assert logprobs(left) == pytest.approx(logprobs(right), abs=1e-4)


@pytest.mark.parametrize("attention", ["paged", "fms"])
@pytest.mark.parametrize("left_behind", [1e30, float("inf"), float("nan")])
def test_nothing_that_earlier_requests_left_in_the_cache_comes_through(
    built: Callable[[str], LLM], attention: str, left_behind: float
) -> None:
    llm = built(attention)
    shapes = [(60, 8), (65, 3), (1, 4)]
    clean = generate(llm, shapes)
    with torch.inference_mode():
        for layer in runner_of(llm).cache:
            for tensor in layer:
                tensor[1:] = left_behind
    dirty = generate(llm, shapes)
    assert tokens(dirty) == tokens(clean)
    for left, right in zip(dirty, clean, strict=True):
        assert logprobs(left) == pytest.approx(logprobs(right), abs=1e-6)


def test_the_padding_block_is_never_written(llm: LLM) -> None:
    generate(llm, RAGGED)
    for layer in runner_of(llm).cache:
        for tensor in layer:
            assert tensor[1].abs().max() > 0
            assert tensor[0].abs().max() == 0


def test_a_request_generates_the_same_in_any_batch(llm: LLM) -> None:
    together = generate(llm, RAGGED)
    for shape, output in zip(RAGGED, together, strict=True):
        (alone,) = generate(llm, [shape])
        assert tokens([alone]) == tokens([output])
        assert logprobs(alone) == pytest.approx(logprobs(output), abs=1e-4)


def test_a_request_that_joins_late_generates_the_same(llm: LLM) -> None:
    (alone,) = generate(llm, [(100, 12)], seed=3)
    core = llm.engine.core
    core.add_request(Request("early", random_tokens(20, 1), greedy(30)))
    step(core, 7)
    core.add_request(Request("late", random_tokens(100, 3), greedy(12)))
    run(core)
    assert core.release("late").output_token_ids == alone.outputs[0].token_ids


def test_an_abort_does_not_change_what_others_generate(llm: LLM) -> None:
    (alone,) = generate(llm, [(10, 12)], seed=3)
    core = llm.engine.core
    core.add_request(Request("long", random_tokens(140, 1), greedy(30)))
    core.add_request(Request("short", random_tokens(10, 3), greedy(12)))
    step(core, 5)
    assert core.abort("long")
    run(core)
    assert core.release("short").output_token_ids == alone.outputs[0].token_ids


def test_a_seeded_request_draws_the_same_in_any_batch(llm: LLM) -> None:
    params = SamplingParams(temperature=1.0, top_k=50, seed=11, max_tokens=20, ignore_eos=True)
    (prompt,) = prompts([(30, 20)])
    (alone,) = llm.generate([prompt], params, progress=False)
    others = [greedy(40), SamplingParams(temperature=2.0, max_tokens=5), params]
    in_batch = llm.generate(
        [*prompts([(100, 40), (3, 5), (64, 20)], seed=1), prompt], [*others, params], progress=False
    )
    assert tokens(in_batch[3:]) == tokens([alone])
    assert tokens(in_batch[2:3]) != tokens([alone]), "the same seed on another prompt is another text"


def test_three_answers_are_three_draws_from_seeds_that_follow_each_other(llm: LLM) -> None:
    params = SamplingParams(n=3, temperature=1.0, seed=5, max_tokens=8, ignore_eos=True)
    (output,) = llm.generate("The function", params, progress=False)
    assert [completion.index for completion in output.outputs] == [0, 1, 2]
    assert len(set(tokens([output])[0])) == 3
    for index, completion in enumerate(output.outputs):
        single = SamplingParams(temperature=1.0, seed=5 + index, max_tokens=8, ignore_eos=True)
        assert tokens(llm.generate("The function", single, progress=False)) == [[completion.token_ids]]


def test_three_answers_without_a_seed_differ_too(llm: LLM) -> None:
    params = SamplingParams(n=3, temperature=1.0, max_tokens=8, ignore_eos=True)
    (output,) = llm.generate("The function", params, progress=False)
    assert len(set(tokens([output])[0])) == 3


def test_a_stop_string_cuts_the_text_where_it_begins(llm: LLM) -> None:
    prompt, whole = "def foo(x):", greedy(30, logprobs=None)
    (free,) = llm.generate(prompt, whole, progress=False)
    text = free.outputs[0].text
    stop = text[len(text) // 2 :][:5]
    (stopped,) = llm.generate(prompt, greedy(30, stop=stop), progress=False)
    (kept,) = llm.generate(prompt, greedy(30, stop=stop, include_stop_str_in_output=True), progress=False)
    before = text[: text.index(stop)]
    assert (stopped.outputs[0].finish_reason, stopped.outputs[0].stop_reason) == ("stop", stop)
    assert (stopped.outputs[0].text, kept.outputs[0].text) == (before, before + stop)
    assert stopped.outputs[0].token_ids == free.outputs[0].token_ids[: len(stopped.outputs[0].token_ids)]
    assert len(stopped.outputs[0].token_ids) < 30


def test_the_end_of_text_ends_a_request_and_min_tokens_puts_it_off(llm: LLM) -> None:
    prompt = "The quick brown fox"
    (ended,) = llm.generate(prompt, SamplingParams(temperature=0, max_tokens=60), progress=False)
    length = len(ended.outputs[0].token_ids)
    assert ended.outputs[0].finish_reason == "stop"
    assert ended.outputs[0].token_ids[-1] in llm.engine.tokenizer.eos_token_ids
    assert "<|end_of_text|>" not in ended.outputs[0].text
    longer = SamplingParams(temperature=0, max_tokens=60, min_tokens=length + 1)
    (put_off,) = llm.generate(prompt, longer, progress=False)
    assert put_off.outputs[0].token_ids[: length - 1] == ended.outputs[0].token_ids[:-1]
    assert len(put_off.outputs[0].token_ids) > length


def test_a_text_and_its_tokens_are_the_same_prompt(llm: LLM) -> None:
    text = "Return the name of the file."
    token_ids = llm.engine.tokenizer.encode(text)
    as_text, as_tokens = llm.generate([text, {"prompt_token_ids": token_ids}], greedy(9), progress=False)
    assert as_text.prompt_token_ids == as_tokens.prompt_token_ids == token_ids
    assert (as_text.prompt, as_tokens.prompt) == (text, None)
    assert as_text.outputs[0].token_ids == as_tokens.outputs[0].token_ids
    assert as_text.outputs[0].text == llm.engine.tokenizer.decode(as_text.outputs[0].token_ids)


def test_outputs_come_in_the_order_of_the_prompts_and_say_how_they_ended(llm: LLM) -> None:
    shapes = [(5, 9), (5, 1), (5, 4)]
    outputs = generate(llm, shapes)
    assert [output.prompt_token_ids for output in outputs] == [random_tokens(5, 0)] * 3
    assert [len(output.outputs[0].token_ids) for output in outputs] == [9, 1, 4]
    assert all(output.finished and output.outputs[0].finish_reason == "length" for output in outputs)
    assert len({output.request_id for output in outputs}) == 3


def test_no_prompts_give_no_outputs(llm: LLM) -> None:
    assert llm.generate([], progress=False) == []


def test_logprobs_are_returned_if_requested(llm: LLM) -> None:
    several = [greedy(3), greedy(3, logprobs=0), greedy(3, logprobs=None)]
    two, chosen_only, none = (output.outputs[0] for output in llm.generate(["A"] * 3, several, progress=False))
    assert [len(position) for _, position in with_logprobs(two)] == [2, 2, 2]
    assert [list(position) for _, position in with_logprobs(chosen_only)] == [[token_id] for token_id in two.token_ids]
    assert two.cumulative_logprob == pytest.approx(sum(position[t].logprob for t, position in with_logprobs(two)))
    first, position = with_logprobs(two)[0]
    assert position[first].decoded_token == llm.engine.tokenizer.decode(two.token_ids[:1])
    assert (none.logprobs, none.cumulative_logprob) == (None, None)


def test_without_a_budget_a_request_fills_the_context(llm: LLM) -> None:
    llm.reset(Limits(max_model_len=192))
    (output,) = llm.generate(prompts([(100, 0)]), greedy(None), progress=False)
    assert len(output.outputs[0].token_ids) == 64


@pytest.mark.parametrize("count", [0, 1, 3])
def test_prompts_and_parameters_must_be_equally_many(llm: LLM, count: int) -> None:
    with pytest.raises(ValueError, match=f"2 prompts came with {count} sampling parameters"):
        llm.generate(["a", "b"], [greedy(2)] * count, progress=False)
    assert is_empty(llm)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ({"prompt_token_ids": (5,) * 450}, "prompt length is 450 tokens, which gets padded to 512 tokens"),
        ({"prompt_token_ids": (5, 2048)}, "token id 2048 is outside the vocabulary of 2048"),
        ({"prompt_token_ids": (5, -1)}, "token id -1 is outside the vocabulary"),
        ({"prompt_token_ids": ()}, "the prompt is empty"),
        ("", "the prompt is empty"),
    ],
    ids=["too long", "above the vocabulary", "below it", "no tokens", "no text"],
)
def test_one_refused_request_refuses_the_call_before_anything_runs(llm: LLM, prompt: Prompt, says: str) -> None:
    seen: list[StepRecord] = []
    with pytest.raises(RequestRefusedError, match=says):
        llm.generate(["a", prompt], greedy(2), progress=False, on_step=seen.append)
    assert seen == []
    assert is_empty(llm)


def test_a_run_that_breaks_off_leaves_nothing_for_the_next_one(llm: LLM) -> None:
    def break_off(record: StepRecord) -> None:
        if record.step == 4:
            raise KeyboardInterrupt

    wanted = tokens(generate(llm, RAGGED[:2]))
    llm.reset(Limits())
    with pytest.raises(KeyboardInterrupt):
        llm.generate(prompts(RAGGED), greedy(20), progress=False, on_step=break_off)
    assert llm.engine.core.sequences == {}
    assert tokens(generate(llm, RAGGED[:2])) == wanted
    assert is_empty(llm)


def test_a_request_that_the_blocks_cannot_hold_ends_the_run_and_not_the_engine(llm: LLM) -> None:
    llm.reset(Limits(available_blocks=2))
    with pytest.raises(OutOfBlocksError, match="needs up to 4 blocks"):
        generate(llm, [(5, 3), (129, 3), (5, 3)])
    assert llm.engine.core.sequences == {}
    assert len(generate(llm, [(5, 3)])[0].outputs[0].token_ids) == 3


def test_a_reset_in_the_middle_of_a_run_forgets_it(llm: LLM) -> None:
    wanted = tokens(generate(llm, RAGGED[:3]))
    core = llm.engine.core
    for length, budget in RAGGED:
        core.add_request(Request(f"old {length}", random_tokens(length, 8), greedy(budget)))
    step(core, 9)
    llm.reset(Limits(max_num_seqs=2))
    assert is_empty(llm)
    assert tokens(generate(llm, RAGGED[:3])) == wanted


def test_on_step_sees_every_step_as_it_happens(llm: LLM) -> None:
    seen: list[StepRecord] = []
    outputs = llm.generate(prompts([(10, 3), (70, 5)]), [greedy(3), greedy(5)], progress=False, on_step=seen.append)
    assert [record.step for record in seen] == list(range(1, len(seen) + 1))
    assert sum(len(record.tokens) for record in seen) == 3 + 5
    assert [type(record.plan) for record in seen].count(Decode) == len(seen) - 3
    assert isinstance(seen[-1].plan, Idle)
    assert (seen[-1].tkv, seen[-1].n_used_blocks) == (0, 0)
    by_request = {output.request_id: output.outputs[0].token_ids for output in outputs}
    for request_id, token_ids in by_request.items():
        got = [dict(zip(record.request_outputs, record.tokens, strict=True)).get(request_id) for record in seen]
        assert tuple(token.token_id for token in got if token) == token_ids


def test_the_progress_bar_changes_nothing(llm: LLM) -> None:
    shown, hidden = (llm.generate("a", greedy(3), progress=progress) for progress in (True, False))
    assert tokens(shown) == tokens(hidden)
