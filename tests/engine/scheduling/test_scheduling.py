"""Tests of the continuous scheduler: which step is next, and how it changes tkv, queue, batch and blocks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import Limits
from engine.core import StepRecord
from engine.kv_cache.block_pool import OutOfBlocksError
from engine.request import FinishReason
from engine.scheduling.plan import Decode, Idle, Prefill
from tests.helpers.budget import examples
from tests.helpers.engine import Workload, add, core_with, planned, pool_of, request, run, step, workloads


def test_a_step_prefills_one_prompt_and_decodes_none() -> None:
    core = add(core_with(), *(request(name, 10, 5) for name in "abc"))
    records = [core.step() for _ in range(4)]
    assert [record.request_outputs for record in records] == [("a",), ("b",), ("c",), ("c", "b", "a")]
    assert [record.tkv for record in records] == [64, 64, 64, 65]


def test_the_newest_sequence_runs_at_the_front() -> None:
    core = add(core_with(), *(request(name, 10, 5) for name in "abc"))
    assert step(core, 3).running == ("c", "b", "a")
    assert step(core, 1).request_outputs == ("c", "b", "a")


def test_a_prompt_that_arrives_is_prefilled_before_the_others_decode_on() -> None:
    core = add(core_with(), request("a", 10, 9))
    step(core, 3)
    add(core, request("b", 10, 9))
    record = core.step()
    assert isinstance(record.plan, Prefill)
    assert record.request_outputs == ("b",)
    assert record.tkv == 66


def test_the_head_of_the_queue_is_not_overtaken_even_with_room() -> None:
    core = add(core_with(Limits(available_blocks=3)), request("a", 64, 64), request("b", 64, 65), request("c", 64, 1))
    core.step()
    assert core.step().waiting == ("b", "c")  # b needs 2 of 1 block, c needs 1
    prefills = [record.request_outputs for record in run(core) if isinstance(record.plan, Prefill)]
    assert prefills == [("b",), ("c",)]


def test_a_new_batch_starts_with_the_prompt_rounded_up_to_blocks() -> None:
    for prompt_length, tkv in ((1, 64), (64, 64), (65, 128)):
        core = add(core_with(), request("a", prompt_length, 2))
        record = core.step()
        assert record.tkv == tkv
        assert record.plan == Prefill(
            "a", prompt_length, tkv, (tkv - prompt_length) % 64, planned(record, Prefill).blocks
        )


def test_a_longer_prompt_shifts_the_running_sequences_by_whole_blocks() -> None:
    core = add(core_with(), request("a", 10, 30), request("b", 100, 5))
    core.step()
    joined = core.step()
    assert (joined.tkv, joined.n_used_blocks, joined.n_reserved_blocks) == (128, 1 + 2, 2 + 3)
    decoded = core.step()
    plan = planned(decoded, Decode)
    assert plan.left_paddings == (28, 118)
    assert [len(table) for table in plan.block_tables] == [3, 2]
    assert decoded.tkv == 129


def test_a_shorter_prompt_leaves_tkv_and_gets_no_blocks_of_padding() -> None:
    core = add(core_with(), request("a", 130, 9), request("b", 10, 20))
    core.step()
    plan = planned(core.step(), Prefill)
    assert plan == Prefill("b", 10, 192, 54, plan.blocks)
    assert len(plan.blocks) == 1


def test_a_decode_at_a_block_boundary_takes_one_block_for_everybody() -> None:
    core = add(core_with(), request("a", 64, 9), request("b", 64, 9))
    used = [core.step().n_used_blocks for _ in range(4)]
    assert used == [1, 2, 4, 4]


def test_padding_that_everybody_has_is_removed_once_the_longest_sequence_left() -> None:
    core = add(core_with(), request("a", 130, 3), request("b", 10, 20))
    ended = step(core, 4)
    assert (ended.tkv, ended.finished_requests) == (194, ("a",))
    record = core.step()
    assert record.plan == Decode(("b",), 66, (54,), planned(record, Decode).block_tables)
    assert record.tkv == 67


def test_less_than_a_block_of_common_padding_stays() -> None:
    core = add(core_with(), request("a", 64, 3), request("b", 1, 20))
    step(core, 4)
    assert planned(core.step(), Decode).left_paddings == (63,)


def test_padding_is_removed_in_a_prefill_step_too() -> None:
    core = add(core_with(), request("a", 130, 3), request("b", 10, 20))
    step(core, 4)
    add(core, request("c", 3, 2))
    plan = planned(core.step(), Prefill)
    assert plan == Prefill("c", 3, 66, 63, plan.blocks)


def test_blocks_of_an_ended_sequence_are_counted_until_the_next_step() -> None:
    core = add(core_with(), request("a", 64, 2), request("b", 64, 4))
    ended = step(core, 3)
    assert (ended.finished_requests, ended.running) == (("a",), ("b",))
    assert (ended.n_used_blocks, ended.n_reserved_blocks) == (4, 4)
    after = core.step()
    assert (after.n_used_blocks, after.n_reserved_blocks) == (2, 2)


def test_after_the_last_sequence_one_empty_step_puts_everything_back() -> None:
    core = add(core_with(), request("a", 64, 3))
    ended = step(core, 3)
    assert (ended.finished_requests, ended.tkv, ended.n_used_blocks, core.has_work) == (("a",), 66, 2, True)
    empty = core.step()
    assert empty.plan == Idle()
    assert (empty.tkv, empty.n_used_blocks, empty.n_reserved_blocks) == (0, 0, 0)
    assert empty.request_outputs == empty.finished_requests == empty.running == ()
    assert not core.has_work


def test_a_budget_of_one_token_ends_at_the_prefill() -> None:
    core = add(core_with(), request("a", 10, 1))
    record = core.step()
    assert (record.request_outputs, record.finished_requests, record.running) == (("a",), ("a",), ())
    assert (record.n_used_blocks, record.n_reserved_blocks) == (1, 1)
    assert core.step().plan == Idle()


def test_budgets_of_one_token_never_meet_in_the_batch() -> None:
    core = add(core_with(), request("a", 10, 1), request("b", 100, 1))
    assert core.step().tkv == 64
    record = core.step()
    assert (record.tkv, record.n_used_blocks) == (128, 2)


def test_an_empty_batch_takes_the_head_of_the_queue() -> None:
    core = add(core_with(Limits(max_model_len=64, max_batch_tkv_limit=1)), request("a", 70, 4))
    records = run(core)
    # The prompt fills the context, so the token of its prefill is its last.
    assert [(record.tkv, record.finished_requests) for record in records] == [(128, ("a",)), (0, ())]


def test_a_longer_prompt_waits_where_tkv_cannot_grow() -> None:
    core = add(core_with(Limits(max_model_len=128)), request("a", 64, 20), request("b", 70, 4))
    waited = step(core, 7)
    assert (waited.tkv, waited.waiting) == (70, ("b",))
    joined = core.step()
    assert (joined.tkv, joined.request_outputs) == (70, ("b",))


def test_a_request_larger_than_the_cache_stays_until_it_is_aborted() -> None:
    core = add(core_with(Limits(available_blocks=1)), request("a", 65, 1), request("b", 64, 1))
    for _ in range(2):
        with pytest.raises(OutOfBlocksError, match="request a needs up to 2 blocks"):
            core.step()
        assert core.state().waiting == ("a", "b")
    assert core.abort("a")
    assert core.step().request_outputs == ("b",)


def test_an_aborted_waiting_request_leaves_the_queue_in_order() -> None:
    core = add(core_with(Limits(max_num_seqs=1)), *(request(name, 10, 3) for name in "abcd"))
    core.step()
    assert core.abort("c")
    assert core.state().waiting == ("b", "d")
    outputs = [record.request_outputs for record in run(core)]
    assert ("c",) not in outputs
    assert outputs.index(("b",)) < outputs.index(("d",))


def test_a_request_with_the_id_of_an_aborted_one_is_checked_against_the_limit_itself() -> None:
    core = add(core_with(Limits(max_batch_tkv_limit=300)), request("a", 64, 100), request("b", 64, 150))
    assert step(core, 5).waiting == ("b",)
    core.abort("b")
    core.release("b")
    add(core, request("b", 64, 20))
    assert core.step().running == ("b", "a")


def test_aborting_the_only_waiting_request_leaves_one_empty_step() -> None:
    core = add(core_with(), request("a", 10, 3))
    assert core.abort("a")
    assert core.has_work
    record = core.step()
    assert (record.request_outputs, record.tkv, record.n_used_blocks) == ((), 0, 0)
    assert not core.has_work


def test_an_aborted_running_request_holds_its_blocks_until_the_next_step() -> None:
    core = add(core_with(), request("a", 64, 9), request("b", 64, 9))
    step(core, 3)
    assert core.abort("a")
    state = core.state()
    assert (state.running, state.n_used_blocks, state.n_reserved_blocks) == (("b",), 4, 4)
    record = core.step()
    assert (record.request_outputs, record.n_used_blocks, record.n_reserved_blocks) == (("b",), 2, 2)


def test_aborting_the_whole_batch_ends_with_an_empty_step() -> None:
    core = add(core_with(), request("a", 64, 9), request("b", 64, 9))
    step(core, 3)
    assert core.abort("a")
    assert core.abort("b")
    record = core.step()
    assert record.plan == Idle()
    assert (record.tkv, record.n_used_blocks) == (0, 0)
    assert not core.has_work


def test_after_an_aborted_batch_the_next_prompt_starts_a_new_one() -> None:
    core = add(core_with(Limits(available_blocks=3)), request("a", 128, 9))
    step(core, 2)
    assert core.abort("a")
    add(core, request("b", 10, 2))
    record = core.step()
    assert (record.tkv, record.n_used_blocks, record.n_reserved_blocks) == (64, 1, 2)


class Watched:
    """Runs an engine core with a random workload, and checks its state after every step."""

    def __init__(self, workload: Workload, aborts: dict[int, int]) -> None:
        self.workload = workload
        self.core = core_with(workload.limits)
        self.aborts = aborts
        self.aborted: set[str] = set()
        self.arrived: list[str] = []
        self.prefilled: list[str] = []
        self.ended: list[str] = []
        self.got: dict[str, int] = {}

    def run(self) -> None:
        bound = self.workload.last_join + sum(a.max_tokens + 2 for a in self.workload.arrivals) + 2
        while self.core.has_work or self.core.steps_done <= self.workload.last_join:
            self.arrived += self.workload.queue(self.core)
            victim = self.aborts.get(self.core.steps_done)
            if victim is not None and self.core.abort(str(victim)):
                self.aborted.add(str(victim))
            self.look_at(self.core.step())
            assert self.core.steps_done <= bound, "somebody starves"
        self.look_back()

    def look_at(self, record: StepRecord) -> None:
        limits, pool = self.core.limits, pool_of(self.core)
        pool.check_integrity()
        assert record.n_used_blocks <= record.n_reserved_blocks <= limits.available_blocks
        assert (record.n_used_blocks, record.n_reserved_blocks) == (pool.used_total, pool.reserved_total)
        assert len(record.running) <= limits.max_num_seqs
        assert record.tkv <= limits.max_model_len
        took_part = len(record.request_outputs) if isinstance(record.plan, Decode) else len(record.running)
        assert took_part <= 1 or took_part * record.tkv <= limits.max_batch_tkv_limit
        for request_id in record.request_outputs:
            self.got[request_id] = self.got.get(request_id, 0) + 1
        self.ended += record.finished_requests
        if isinstance(record.plan, Prefill):
            self.prefilled.append(record.plan.request_id)
            self.look_at_prefill(record.plan)
        elif isinstance(record.plan, Decode):
            self.look_at_decode(record.plan)
        newest_first = [name for name in reversed(self.prefilled) if name not in {*self.ended, *self.aborted}]
        assert list(record.running) == newest_first
        gone = {*self.prefilled, *self.aborted}
        assert list(record.waiting) == [name for name in self.arrived if name not in gone]

    def look_at_prefill(self, plan: Prefill) -> None:
        right = len(plan.blocks) * 64 - plan.left_padding - plan.prompt_length
        assert 0 <= plan.left_padding < 64
        assert 0 <= right < 64
        assert plan.tkv >= plan.prompt_length

    def look_at_decode(self, plan: Decode) -> None:
        assert min(plan.left_paddings) < 64
        for request_id, left in zip(plan.request_ids, plan.left_paddings, strict=True):
            got_before = self.got[request_id] - 1
            prompt_length = self.workload.arrivals[int(request_id)].prompt_length
            assert plan.tkv - left == prompt_length + got_before - 1  # the last one is this step's input
        blocks = [block for table in plan.block_tables for block in table]
        assert len(set(blocks)) == len(blocks)
        assert 0 not in blocks

    def look_back(self) -> None:
        state = self.core.state()
        assert (state.tkv, state.n_used_blocks, state.n_reserved_blocks) == (0, 0, 0)
        assert state.waiting == state.running == ()
        for i, arrival in enumerate(self.workload.arrivals):
            sequence = self.core.release(str(i))
            if str(i) in self.aborted:
                assert sequence.finish_reason == FinishReason.ABORT
                assert str(i) not in self.ended
                assert len(sequence.tokens) == self.got.get(str(i), 0) < arrival.max_tokens
            else:
                assert sequence.finish_reason == FinishReason.LENGTH
                assert self.ended.count(str(i)) == 1
                assert len(sequence.tokens) == self.got[str(i)] == arrival.max_tokens


@settings(deadline=None, max_examples=examples(200, 2000))
@given(workload=workloads(), aborts=st.dictionaries(st.integers(0, 120), st.integers(0, 9), max_size=3))
def test_every_workload_keeps_the_books_the_limits_and_the_order(workload: Workload, aborts: dict[int, int]) -> None:
    Watched(workload, aborts).run()
