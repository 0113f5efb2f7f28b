"""Tests of the engine core: requests are added and aborted, steps are run, and each step is recorded."""

from collections.abc import Sequence

import pytest

from engine.config import ConfigError, EngineConfig, Limits
from engine.core import EngineCore, StepRecord
from engine.request import FinishReason, Request, SamplingParams, SamplingParamsError, TokenOutput
from engine.scheduling.plan import Decode, Idle, Prefill
from engine.simulation import simulated_core
from tests.helpers.engine import ScriptedTokens, add, core_with, pool_of, request, run, step

EOS = 0


def test_a_record_says_what_was_planned_what_came_of_it_and_what_can_be_seen() -> None:
    core = add(core_with(executor=ScriptedTokens({"a": [11, 12, 13], "b": [21, 22]})), request("a", 60, 3))
    assert core.step() == StepRecord(
        step=1,
        plan=Prefill("a", 60, 64, 4, (1,)),
        tkv=64,
        waiting=(),
        running=("a",),
        request_outputs=("a",),
        finished_requests=(),
        n_reserved_blocks=2,
        n_used_blocks=1,
        tokens=(TokenOutput(11),),
    )
    add(core, request("b", 64, 2), request("c", 200, 400))
    assert core.step() == StepRecord(
        2, Prefill("b", 64, 64, 0, (2,)), 64, ("c",), ("b", "a"), ("b",), (), 4, 2, (TokenOutput(21),)
    )
    assert core.step() == StepRecord(
        step=3,
        plan=Decode(("b", "a"), 64, (0, 4), ((2, 3), (1, 4))),
        tkv=65,
        waiting=("c",),
        running=("a",),
        request_outputs=("b", "a"),
        finished_requests=("b",),
        n_reserved_blocks=4,
        n_used_blocks=4,
        tokens=(TokenOutput(22), TokenOutput(12)),
    )


def test_steps_are_counted_from_one_and_idle_ones_count() -> None:
    core = add(core_with(), request("a", 10, 2))
    assert [record.step for record in run(core)] == [1, 2, 3]
    assert core.steps_done == 3
    assert core.step().plan == Idle()
    assert core.steps_done == 4


def test_state_between_steps_sees_a_request_that_was_just_queued() -> None:
    core = add(core_with(), request("a", 10, 2))
    state = core.state()
    assert (state.tkv, state.waiting, state.running, state.n_used_blocks) == (0, ("a",), (), 0)


def test_a_token_goes_to_the_request_it_is_for() -> None:
    core = add(
        core_with(executor=ScriptedTokens({"a": [1, 2, 3], "b": [4, 5, 6], "c": [8, 9, 10]})),
        *(request(name, 10, 3) for name in "abc"),
    )
    run(core)
    assert [core.release(name).output_token_ids for name in "abc"] == [(1, 2, 3), (4, 5, 6), (8, 9, 10)]


def test_the_end_of_sequence_token_ends_a_request_before_its_budget() -> None:
    script = ScriptedTokens({"a": [3, EOS], "b": [3, EOS, 4]})
    core = add(
        core_with(executor=script, eos_token_ids=frozenset({EOS})),
        request("a", 10, 9),
        request("b", 10, 3, ignore_eos=True),
    )
    records = run(core)
    assert [record.finished_requests for record in records] == [(), (), ("a",), ("b",), ()]
    assert core.release("a").finish_reason == FinishReason.STOP
    assert core.release("b").finish_reason == FinishReason.LENGTH


def test_an_end_of_sequence_token_at_the_prefill_ends_a_request() -> None:
    core = add(core_with(executor=ScriptedTokens({"a": [EOS]}), eos_token_ids=frozenset({EOS})), request("a", 10, 9))
    assert core.step().finished_requests == ("a",)


def test_an_empty_prompt_is_refused() -> None:
    core = core_with()
    with pytest.raises(ValueError, match="request a has an empty prompt"):
        core.add_request(request("a", 0, 2))
    assert not core.has_work
    assert core.sequences == {}


def test_an_id_is_taken_until_its_request_is_released() -> None:
    core = add(core_with(), request("a", 10, 1))
    for _ in range(3):  # waiting, ended, removed from the batch
        with pytest.raises(ValueError, match="request id a is already in use"):
            core.add_request(request("a", 10, 1))
        core.step()
    core.release("a")
    add(core, request("a", 10, 1))
    assert core.step().finished_requests == ("a",)


def test_an_id_can_be_used_again_while_its_old_blocks_are_still_held() -> None:
    core = add(core_with(), request("a", 10, 1))
    core.step()
    core.release("a")
    add(core, request("a", 70, 1))
    record = core.step()
    assert (record.finished_requests, record.n_used_blocks, record.n_reserved_blocks) == (("a",), 2, 2)
    pool_of(core).check_integrity()


def test_a_request_without_a_budget_is_refused_and_leaves_its_id_free() -> None:
    core = core_with()
    with pytest.raises(SamplingParamsError, match="request a has no max_tokens"):
        core.add_request(Request("a", (5,), SamplingParams(max_tokens=None)))
    assert core.sequences == {}
    assert not core.has_work
    add(core, request("a", 10, 1))


def test_stop_strings_are_refused_where_there_is_no_tokenizer() -> None:
    core = core_with()
    with pytest.raises(SamplingParamsError, match="stop strings need a tokenizer"):
        core.add_request(request("a", 10, 2, stop="x"))
    assert core.sequences == {}


def test_stop_strings_are_looked_for_in_the_text_of_the_tokens() -> None:
    def decode(token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        return "".join("abcdefgh"[token_id] for token_id in token_ids if token_id or not skip_special_tokens)

    core = EngineCore(EngineConfig(), ScriptedTokens({"a": [1, 0, 2, 3]}), decode_text=decode)
    add(core, request("a", 10, 9, stop="bc"))
    run(core)
    assert core.release("a").output_token_ids == (1, 0, 2)


def test_an_aborted_request_says_so_and_keeps_what_it_generated() -> None:
    core = add(core_with(), request("a", 10, 9), request("b", 10, 9))
    step(core, 3)
    assert core.abort("a")
    run(core)
    aborted = core.release("a")
    assert (aborted.finish_reason, len(aborted.tokens)) == (FinishReason.ABORT, 2)
    assert core.release("b").finish_reason == FinishReason.LENGTH


def test_a_request_can_be_aborted_once_and_not_after_it_ended() -> None:
    core = add(core_with(), request("a", 10, 1), request("b", 10, 5))
    core.step()
    assert not core.abort("a")
    assert core.sequences["a"].finish_reason == FinishReason.LENGTH
    assert core.abort("b")
    assert not core.abort("b")
    assert not core.abort("nobody")


def test_a_released_request_is_forgotten() -> None:
    core = add(core_with(), request("a", 10, 2))
    run(core)
    assert core.release("a").output_token_ids == (7, 7)
    with pytest.raises(KeyError):
        core.release("a")


def test_a_reset_forgets_everything_and_tightens_or_widens_the_limits() -> None:
    core = add(core_with(), request("a", 10, 9), request("b", 10, 9))
    step(core, 3)
    assert core.reset(Limits(max_num_seqs=1)).max_num_seqs == 1
    assert (core.steps_done, core.has_work, core.sequences) == (0, False, {})
    assert core.state().n_used_blocks == 0
    add(core, request("a", 10, 2), request("b", 10, 2))
    assert max(len(record.running) for record in run(core)) == 1
    assert core.reset(Limits()).max_num_seqs == 4


def test_a_reset_to_impossible_limits_changes_nothing() -> None:
    core = add(core_with(Limits(max_num_seqs=2)), request("a", 10, 9))
    core.step()
    with pytest.raises(ConfigError):
        core.reset(Limits(max_num_seqs=5))
    assert core.limits.max_num_seqs == 2
    assert core.step().request_outputs == ("a",)


def test_a_simulated_core_schedules_like_any_other() -> None:
    scripted = add(core_with(), *(request(name, 70, 9) for name in "abc"))
    simulated = add(simulated_core(EngineConfig()), *(request(name, 70, 9) for name in "abc"))
    for left, right in zip(run(scripted), run(simulated), strict=True):
        assert left._replace(tokens=()) == right._replace(tokens=())
        assert len(right.tokens) == len(right.request_outputs)
