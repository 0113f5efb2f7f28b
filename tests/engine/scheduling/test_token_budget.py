"""Tests of the token-budget scheduler without a model: invalid options, and behaviour that the recordings lack."""

from typing import Any

import pytest

from engine.config import ConfigError, EngineConfig, Limits
from engine.core import EngineCore, StepRecord
from engine.entrypoints.server.arguments import parse
from engine.entrypoints.validation import RequestRefusedError, admit_unpadded
from engine.kv_cache.block_pool import UnschedulableRequestError
from engine.request import Request, SamplingParams, SamplingParamsError
from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from engine.trace import trace_line
from tests.helpers.engine import ScriptedTokens, add, is_one_sentence, request, run


def core_with(limits: Limits = Limits(), **options: Any) -> EngineCore:  # noqa: B008  (frozen)
    config = EngineConfig(scheduler="token_budget", max_model_len=512, max_num_seqs=4, **options)
    core = EngineCore(config, ScriptedTokens())
    core.reset(limits)
    return core


def scheduled(record: StepRecord) -> dict[str, int]:
    assert record.token_budget is not None
    return dict(record.token_budget.scheduled)


@pytest.mark.parametrize(("tokens", "steps"), [(127, 1), (128, 1), (129, 2), (256, 2), (257, 3)])
def test_a_prompt_takes_as_many_steps_as_the_budget_says(tokens: int, steps: int) -> None:
    records = run(add(core_with(max_num_batched_tokens=128), request("a", tokens, 1)))
    assert [scheduled(r).get("a", 0) for r in records] == [128] * (steps - 1) + [tokens - 128 * (steps - 1), 0]


def test_no_step_computes_more_than_the_budget() -> None:
    core = core_with(max_num_batched_tokens=3)
    records = run(add(core, *(request(str(i), 5, 4) for i in range(4))))
    assert max(sum(scheduled(r).values()) for r in records) == 3
    assert [core.sequences[str(i)].output_token_ids for i in range(4)] == [(7,) * 4] * 4


@pytest.mark.parametrize(("rules", "alone"), [("0.27", 32), ("0.32", 100)])
def test_a_threshold_for_a_lone_request(rules: str, alone: int) -> None:
    core = add(core_with(long_prefill_token_threshold=32, rules=rules), request("a", 100, 2))
    assert scheduled(core.step()) == {"a": alone}


@pytest.mark.parametrize("rules", ["0.27", "0.32"])
def test_a_threshold_for_two(rules: str) -> None:
    core = add(core_with(long_prefill_token_threshold=32, rules=rules), request("a", 100, 2), request("b", 33, 2))
    assert scheduled(core.step()) == {"a": 32, "b": 32}
    assert scheduled(core.step()) == {"a": 32, "b": 1}


def test_the_head_of_the_queue_is_not_overtaken() -> None:
    core = core_with(Limits(available_blocks=8), enable_prefix_caching=False)
    add(core, request("a", 300, 40), request("b", 400, 1), request("c", 5, 1))
    record = core.step()
    assert (record.running, record.waiting) == (("a",), ("b", "c"))


def test_a_preempted_request_goes_on_with_the_tokens_it_has() -> None:
    """Two requests of 64 tokens need four blocks, but there are three, so that the second request is preempted.

    It continues after the end of the first request, with the tokens that it had already generated.
    """
    core = core_with(Limits(max_num_seqs=2, available_blocks=3), enable_prefix_caching=False)
    add(core, request("a", 64, 5), request("b", 64, 5))
    assert scheduled(core.step()) == {"a": 64, "b": 64}
    record = core.step()
    assert record.token_budget is not None
    assert (record.token_budget.preempted, scheduled(record), record.waiting) == (("b",), {"a": 1}, ("b",))
    records = run(core)
    assert next(scheduled(r)["b"] for r in records if "b" in scheduled(r)) == 65
    assert [core.sequences[i].output_token_ids for i in "ab"] == [(7,) * 5] * 2
    assert records[-1].n_used_blocks == 0


def test_a_preempted_request_with_prompt_logprobs_computes_its_prompt_again() -> None:
    core = core_with(Limits(available_blocks=6), enable_prefix_caching=True)
    scored = SamplingParams(max_tokens=200, temperature=0, ignore_eos=True, prompt_logprobs=0)
    add(core, request("a", 130, 70), Request("b", tuple(range(100)), scored))
    records = run(core)
    [preempted] = [i for i, record in enumerate(records) if record.token_budget and record.token_budget.preempted]
    again = next(record for record in records[preempted + 1 :] if "b" in scheduled(record))
    assert again.token_budget is not None
    assert again.token_budget.hits == (("b", 0),)


def test_who_needs_a_block_may_be_the_last_itself() -> None:
    core = core_with(Limits(max_num_seqs=2, available_blocks=3), enable_prefix_caching=False)
    add(core, request("a", 66, 9), request("b", 64, 9))
    core.step()
    record = core.step()
    assert record.token_budget is not None
    assert (record.token_budget.preempted, scheduled(record)) == (("b",), {"a": 1})
    assert record.request_outputs == ("a",)


def test_an_aborted_request_frees_its_blocks_between_two_steps() -> None:
    core = add(core_with(), request("a", 100, 9), request("b", 10, 1))
    core.step()
    assert core.state().n_used_blocks == 2
    assert core.abort("a")
    assert not core.abort("a")
    assert core.state().n_used_blocks == 0
    assert scheduled(core.step()) == {}
    assert not core.has_work


def test_a_request_aborted_in_the_queue_leaves_an_empty_step() -> None:
    core = add(core_with(), request("a", 100, 9))
    core.abort("a")
    assert core.has_work
    run(core)
    assert core.steps_done == 1


def test_what_the_whole_cache_cannot_hold_is_refused_until_it_is_aborted() -> None:
    core = add(core_with(Limits(available_blocks=2)), request("a", 129, 1), request("b", 5, 1))
    for _ in range(2):
        with pytest.raises(
            UnschedulableRequestError, match="request a needs 3 blocks for its 129 tokens, but the KV cache has only 2"
        ):
            core.step()
    core.abort("a")
    assert scheduled(core.step()) == {"b": 5}


def test_what_outgrows_the_whole_cache_is_refused_then() -> None:
    core = add(core_with(Limits(available_blocks=2)), request("a", 128, 9))
    core.step()
    record = core.step()
    assert record.token_budget is not None
    assert (record.token_budget.preempted, scheduled(record)) == (("a",), {})
    with pytest.raises(UnschedulableRequestError, match="request a needs 3 blocks for its 129 tokens"):
        core.step()


def test_without_chunks_what_exceeds_the_budget_is_refused() -> None:
    core = core_with(enable_chunked_prefill=False, max_num_batched_tokens=64)
    add(core, request("a", 65, 1))
    with pytest.raises(UnschedulableRequestError, match="its 65 tokens exceed max_num_batched_tokens 64"):
        core.step()


def test_a_prompt_that_fills_the_context_in_chunks_is_refused() -> None:
    core = add(core_with(Limits(max_model_len=128), max_num_batched_tokens=64), request("a", 128, 1))
    core.step()
    core.step()
    with pytest.raises(UnschedulableRequestError, match="at most 127 can be computed with max_model_len 128"):
        core.step()


def test_a_cache_has_the_requested_number_of_blocks() -> None:
    assert EngineConfig(scheduler="token_budget", num_blocks=31, max_num_seqs=4).available_blocks == 30
    assert EngineConfig(scheduler="token_budget", max_num_seqs=4, max_model_len=512).available_blocks == 32


WRONG = [
    ({"scheduler": "chunked", "rules": "0.27"}, "rules is an option of scheduler 'token_budget', but this engine has"),
    ({"scheduler": "token_budget", "interleave": True}, "interleave is an option of scheduler 'chunked'"),
    ({"scheduler": "continuous", "enable_prefix_caching": True}, "enable_prefix_caching is an option of scheduler"),
    ({"scheduler": "token_budget", "rules": "0.28"}, "rules '0.28' is not known: choose from 0.27, 0.32"),
    ({"scheduler": "token_budget", "max_num_batched_tokens": 0}, "max_num_batched_tokens must be at least 1, not 0"),
    (
        {"scheduler": "token_budget", "long_prefill_token_threshold": -1},
        "long_prefill_token_threshold must be at least 0, not -1",
    ),
    ({"scheduler": "token_budget", "max_batch_tkv_limit": 512}, "max_batch_tkv_limit is not a limit of scheduler"),
    ({"scheduler": "token_budget", "block_size": 48}, "block_size 48 is not a multiple of 32"),
    ({"scheduler": "token_budget", "block_size": 32, "backend": "sendnn"}, "block_size 32 does not run on backend"),
    ({"scheduler": "token_budget", "num_blocks": 8}, "the KV cache has 7 blocks for sequences, but one sequence of"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_options_that_cannot_work_are_refused_in_a_sentence(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")) as refused:
        EngineConfig(**wrong)  # type: ignore[arg-type]
    assert is_one_sentence(str(refused.value))


def test_the_server_has_flags_for_all_options() -> None:
    flags = "--max-num-batched-tokens 96 --enable-chunked-prefill no --enable-prefix-caching no"
    more = "--long-prefill-token-threshold 0 --rules 0.32 --block-size 32"
    environ = {"VLLM_DT_MAX_BATCH_TKV_LIMIT": "1024"}  # as on a machine with cards; this scheduler has no such limit
    config = parse(["--scheduler", "token_budget", *flags.split(), *more.split()], environ).engine
    budget = config.token_budget
    assert (budget.max_num_batched_tokens, budget.enable_chunked_prefill, budget.enable_prefix_caching) == (
        96,
        False,
        False,
    )
    assert (budget.long_prefill_token_threshold, budget.rules, budget.block_size) == (0, "0.32", 32)


def test_entry_points_only_demand_room_for_a_token() -> None:
    assert admit_unpadded(127, SamplingParams(max_tokens=50), 128).max_tokens == 50
    assert admit_unpadded(100, SamplingParams(max_tokens=None), 128).max_tokens == 28
    with pytest.raises(RequestRefusedError, match="prompt length is 128 tokens, which leaves no room"):
        admit_unpadded(128, SamplingParams(), 128)
    with pytest.raises(RequestRefusedError, match="the prompt is empty"):
        admit_unpadded(0, SamplingParams(), 128)
    with pytest.raises(SamplingParamsError, match="min_tokens must not exceed max_tokens 28"):
        admit_unpadded(100, SamplingParams(max_tokens=None, min_tokens=29), 128)


def test_a_trace_shows_tokens_and_preemptions() -> None:
    core = core_with(Limits(max_num_seqs=2, available_blocks=3))
    add(core, request("a", 64, 5), request("b", 64, 5))
    lines = [trace_line(core.step()) for _ in range(2)]
    assert lines[0].endswith("tokens: a:64 b:64")
    assert lines[1].endswith("tokens: a:1  preempted: b")


def test_what_is_seen_between_steps_is_of_the_last_one() -> None:
    core = add(core_with(), request("a", 100, 9))
    before = core.state().token_budget
    assert before is not None
    assert (before.scheduled, before.preempted, before.hits) == ((), (), ())
    core.step()
    after = core.state().token_budget
    assert after is not None
    assert (after.scheduled, after.hits) == ((("a", 100),), (("a", 0),))
    assert isinstance(core.scheduler, TokenBudgetScheduler)
