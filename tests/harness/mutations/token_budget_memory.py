"""Mutations of the prefix cache with the scheduler ``token_budget``, and of what a step with several parts computes."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.execution import runner as model_runner
from engine.execution.runner import ModelRunner
from engine.kv_cache import block_hash
from engine.kv_cache.block_hash import NOTHING, content_key, extend_keys
from engine.kv_cache.blocks import BLOCK_SIZE
from engine.kv_cache.shared_pool import SharedPool
from engine.model import logits
from engine.model.mixed_inputs import decode_rows, part_inputs
from engine.scheduling.plan import MixedStep, Part
from engine.scheduling.token_budget import scheduler
from engine.scheduling.token_budget import sequence as token_budget_sequence
from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from engine.scheduling.token_budget.sequence import BudgetSequence
from tests.harness.mutations.chunked import keys_of_the_first_block_and_their_own
from tests.harness.mutations.registry import budget_mutation, budget_output_mutation
from tests.harness.mutations.token_budget import change_options

# --- the prefix cache ---------------------------------------------------------------------------------------------


@budget_mutation("without-caching-twins-share-nothing", "hits 1:192, expected -")
def share_blocks_without_prefix_caching(patch: pytest.MonkeyPatch) -> None:
    change_options(patch, lambda options: replace(options, enable_prefix_caching=True))


@budget_mutation("blocks-of-an-aborted-request-are-found", "hits -, expected ")
def find_nothing_with_prefix_caching(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TokenBudgetScheduler, "_found", lambda self, sequence: ())


@budget_mutation("the-same-prompt-of-128-again", "hits -, expected 1:64")
def find_the_block_of_the_last_token(patch: pytest.MonkeyPatch) -> None:
    """Look up all full blocks of a request, also a block that ends with the request's last token.

    A correct scheduler leaves out that block, so that the last token is computed. If all blocks are found, the mutation
    leaves out the last two.
    """

    def found(self: TokenBudgetScheduler, sequence: BudgetSequence) -> Any:
        if not self.options.enable_prefix_caching:
            return ()
        blocks = self.pool.find(sequence.keys_of(sequence.length // sequence.block_size))
        return blocks if len(blocks) * sequence.block_size < sequence.length else blocks[:-2]

    patch.setattr(TokenBudgetScheduler, "_found", found)


@budget_mutation("the-same-block-behind-another-is-not-found", "hits 2:128, expected 2:64")
def know_a_block_of_a_budget_by_its_own_tokens_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(block_hash, "content_key", lambda before, token_ids: content_key(NOTHING, token_ids))


@budget_mutation("the-third-block-behind-another-second-is-not-found", "hits 2:192, expected 2:128")
def know_a_block_of_a_budget_by_the_first_one_and_its_own_tokens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(token_budget_sequence, "extend_keys", keys_of_the_first_block_and_their_own)


@budget_mutation("common-tokens-within-a-block-of-128-are-not-found", "hits 1:128 2:128, expected -")
def compute_keys_over_64_tokens_whatever_the_block_size(patch: pytest.MonkeyPatch) -> None:
    def over_64(keys: Any, blocks: int, tokens: Any, block_size: int) -> None:
        extend_keys(keys, blocks, tokens, BLOCK_SIZE)

    patch.setattr(token_budget_sequence, "extend_keys", over_64)


@budget_mutation("twins-in-one-step", "hits -, expected 1:192")
def register_blocks_after_their_step(patch: pytest.MonkeyPatch) -> None:
    register, commit = TokenBudgetScheduler._register, TokenBudgetScheduler.commit

    def later(self: TokenBudgetScheduler, ended: Any) -> None:
        for sequence in self._running if self.options.enable_prefix_caching else ():
            register(self, sequence, self.pool.held(sequence.request_id))
        commit(self, ended)

    patch.setattr(TokenBudgetScheduler, "_register", lambda self, sequence, blocks: None)
    patch.setattr(TokenBudgetScheduler, "commit", later)


@budget_mutation("with-a-cache-it-finds-the-tokens-that-it-generated", "hits -, expected 1:64")
def register_blocks_of_prompts_alone(patch: pytest.MonkeyPatch) -> None:
    register = TokenBudgetScheduler._register

    def prompts(self: TokenBudgetScheduler, sequence: BudgetSequence, blocks: Any) -> None:
        computed = sequence.computed
        sequence.computed = min(computed, sequence.prompt_length)
        register(self, sequence, blocks)
        sequence.computed = computed

    patch.setattr(TokenBudgetScheduler, "_register", prompts)


@budget_mutation("with-a-cache-it-finds-the-tokens-that-it-generated", "hits -, expected 1:64")
def look_for_the_prompt_of_a_preempted_request_alone(patch: pytest.MonkeyPatch) -> None:
    keys = property(lambda self: self.keys_of((self.prompt_length - 1) // self.block_size))
    patch.setattr(BudgetSequence, "keys_to_look_for", keys)


@budget_output_mutation("free-hits-and-one-block-short", "the engine failed in step 5: OutOfBlocksError")
def count_every_block_of_a_hit_as_free(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharedPool, "worst_case", lambda self, blocks, found: blocks - len(found))


@budget_mutation("hits-that-are-held-do-not-count-at-admission", "step 3 is a decode")
def count_no_block_of_a_hit_as_there(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharedPool, "worst_case", lambda self, blocks, found: blocks)


@budget_mutation("the-same-prompt-of-65-again", "hits -, expected 1:64")
def forget_the_contents_of_freed_blocks(patch: pytest.MonkeyPatch) -> None:
    free = SharedPool.free

    def forgetting(self: SharedPool, holder: str) -> None:
        blocks = self.held(holder)
        free(self, holder)
        for block in blocks:
            if not self.in_use(block):
                self._forget(block)

    patch.setattr(SharedPool, "free", forgetting)


@budget_mutation("a-block-handed-out-is-lost-and-the-run-ends-before-it", "hits -, expected 2:128")
def free_blocks_first_block_first(patch: pytest.MonkeyPatch) -> None:
    free = SharedPool.free

    def turned(self: SharedPool, holder: str) -> None:
        self._held[holder].reverse()
        free(self, holder)

    patch.setattr(SharedPool, "free", turned)


@budget_mutation("a-block-without-a-key-goes-before-older-ones-with-one", "hits 3:64, expected 3:128")
def queue_all_freed_blocks_at_the_end(patch: pytest.MonkeyPatch) -> None:
    start = SharedPool.__init__

    def plain(self: SharedPool, available: int, *, keyless_first: bool) -> None:
        start(self, available, keyless_first=False)

    patch.setattr(SharedPool, "__init__", plain)


@budget_mutation("unfound-blocks-are-handed-out-first", "hits -, expected 3:64")
def hand_out_the_block_that_was_freed_last(patch: pytest.MonkeyPatch) -> None:
    take = SharedPool.take

    def newest(self: SharedPool, holder: str, blocks: int) -> None:
        for _ in range(blocks):
            if self._free:
                self._free.move_to_end(next(reversed(self._free)), last=False)
            take(self, holder, 1)

    patch.setattr(SharedPool, "take", newest)


@budget_mutation("nothing-starts-in-the-step-of-a-preemption", "used 3, expected 2")
def keep_the_blocks_of_a_preempted_request(patch: pytest.MonkeyPatch) -> None:
    """Keep the first block of a preempted request allocated until a request ends or no request runs.

    The block is held by a made-up request id, so that no request can use it.
    """
    preempt, commit = TokenBudgetScheduler._preempt, TokenBudgetScheduler.commit
    kept: list[str] = []

    def keeping(self: TokenBudgetScheduler, sequence: BudgetSequence) -> None:
        block = self.pool.held(sequence.request_id)[0]
        preempt(self, sequence)
        if block in self.pool.free_queue and self.pool.free_total > 2:
            kept.append(f"{sequence.request_id} kept")
            self.pool.share(kept[-1], [block])

    def committed(self: TokenBudgetScheduler, ended: Any) -> None:
        commit(self, ended)
        while kept and (ended or not self._running):
            self.pool.free(kept.pop())

    patch.setattr(TokenBudgetScheduler, "_preempt", keeping)
    patch.setattr(TokenBudgetScheduler, "commit", committed)


# --- what is computed ---------------------------------------------------------------------------------------------


@budget_output_mutation("decodes-and-two-chunks-in-one-step", "Hugging Face says")
def read_every_row_by_the_page_table_of_the_first(patch: pytest.MonkeyPatch) -> None:
    def first(parts: Any, block_size: int) -> Any:
        made = decode_rows(parts, block_size)
        assert made.block_table is not None
        return replace(made, block_table=made.block_table[:1].expand_as(made.block_table).contiguous())

    patch.setattr(model_runner, "decode_rows", first)


@budget_output_mutation("a-prompt-of-five-chunks-beside-a-decode", "Hugging Face says")
def write_new_tokens_into_the_blocks_of_another_sequence(patch: pytest.MonkeyPatch) -> None:
    def others(parts: Any, block_size: int) -> Any:
        made = decode_rows(parts, block_size)
        return replace(made, slot_mapping=made.slot_mapping.roll(1, dims=0))

    patch.setattr(model_runner, "decode_rows", others)


@budget_output_mutation("a-prompt-of-five-chunks-beside-a-decode", "Hugging Face says")
def decode_all_rows_at_the_largest_position(patch: pytest.MonkeyPatch) -> None:
    def same(parts: Any, block_size: int) -> Any:
        made = decode_rows(parts, block_size)
        return replace(made, position_ids=torch.full_like(made.position_ids, int(made.position_ids.max())))

    patch.setattr(model_runner, "decode_rows", same)


@budget_output_mutation("the-last-of-three-is-preempted", "Hugging Face says")
def let_decodes_see_the_padding_of_their_rows(patch: pytest.MonkeyPatch) -> None:
    def visible(parts: Any, block_size: int) -> Any:
        made = decode_rows(parts, block_size)
        assert made.left_padded_prompt_mask is not None
        return replace(made, left_padded_prompt_mask=torch.zeros_like(made.left_padded_prompt_mask))

    patch.setattr(model_runner, "decode_rows", visible)


def change_parts(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Replace the input tensors of each part of a step by the result of ``change(part, inputs)``."""
    patch.setattr(model_runner, "part_inputs", lambda part, size: change(part, part_inputs(part, size)))


@budget_output_mutation("a-prompt-of-five-chunks-beside-a-decode", "Hugging Face says")
def count_the_positions_of_every_part_from_zero(patch: pytest.MonkeyPatch) -> None:
    change_parts(patch, lambda part, made: replace(made, position_ids=made.position_ids - part.start))


@budget_output_mutation("a-prompt-of-five-chunks-beside-a-decode", "Hugging Face says")
def let_a_chunk_see_nothing_before_it(patch: pytest.MonkeyPatch) -> None:
    change_parts(patch, lambda part, made: replace(made, left_padded_prompt_mask=torch.tensor([part.start])))


@budget_output_mutation("decodes-and-two-chunks-in-one-step", "Hugging Face says")
def write_a_chunk_a_token_too_low(patch: pytest.MonkeyPatch) -> None:
    change_parts(patch, lambda part, made: replace(made, slot_mapping=(made.slot_mapping - int(part.start > 0))))


@budget_output_mutation("decodes-and-two-chunks-in-one-step", "Hugging Face says")
def sample_from_the_position_before_the_last_of_a_chunk(patch: pytest.MonkeyPatch) -> None:
    def first(part: Part, made: Any) -> Any:
        return replace(made, output_position=max(0, made.output_position - 1)) if len(part.token_ids) > 1 else made

    change_parts(patch, first)


@budget_output_mutation("twins-in-one-step", "Hugging Face says")
def compute_chunks_before_what_they_find_is_written(patch: pytest.MonkeyPatch) -> None:
    logits = ModelRunner._mixed

    def turned(self: ModelRunner, plan: MixedStep, wanted: Any) -> Any:
        step = logits(self, plan._replace(parts=plan.parts[::-1]), wanted)
        return step._replace(rows=step.rows.flip(0))

    patch.setattr(ModelRunner, "_mixed", turned)


@budget_output_mutation("an-older-chunk-goes-before-younger-decodes", "Hugging Face says")
def hand_out_the_logits_of_decodes_first(patch: pytest.MonkeyPatch) -> None:
    mixed = ModelRunner._mixed

    def sorted_rows(self: ModelRunner, plan: MixedStep, wanted: Any) -> Any:
        return mixed(self, plan._replace(parts=tuple(sorted(plan.parts, key=lambda part: not part.is_decode))), wanted)

    patch.setattr(ModelRunner, "_mixed", sorted_rows)


@budget_output_mutation("a-preempted-request-keeps-its-tokens", "Hugging Face says")
def recompute_a_preempted_request_without_its_generated_tokens(patch: pytest.MonkeyPatch) -> None:
    preempt = TokenBudgetScheduler._preempt
    lengths: dict[str, int] = {}

    def noted(self: TokenBudgetScheduler, sequence: BudgetSequence) -> None:
        lengths[sequence.request_id] = sequence.prompt_length
        preempt(self, sequence)

    def blank(request_id: str, start: int, token_ids: Any, *others: Any) -> Part:
        length = lengths.get(request_id, start + len(token_ids))
        known = token_ids[: max(0, length - start)]
        return Part(request_id, start, known + (0,) * (len(token_ids) - len(known)), *others)

    patch.setattr(TokenBudgetScheduler, "_preempt", noted)
    patch.setattr(scheduler, "Part", blank)


@budget_output_mutation("sampled-with-a-seed-and-preempted", "")
def draw_again_from_the_seed_after_a_preemption(patch: pytest.MonkeyPatch) -> None:
    preempt = TokenBudgetScheduler._preempt

    def reseeded(self: TokenBudgetScheduler, sequence: BudgetSequence) -> None:
        preempt(self, sequence)
        sequence.tokens.generator = None  # type: ignore[attr-defined]

    patch.setattr(TokenBudgetScheduler, "_preempt", reseeded)


@budget_output_mutation("penalties-and-a-bias-through-a-preemption", "Hugging Face says")
def count_tokens_from_before_a_preemption_as_prompt(patch: pytest.MonkeyPatch) -> None:
    """Compute penalties as if tokens generated before a preemption belonged to the prompt.

    Frequency and presence penalties depend on generated tokens only.
    """
    preempt, penalise = TokenBudgetScheduler._preempt, logits.penalise_generated
    before: dict[tuple[int, ...], int] = {}

    def noted(self: TokenBudgetScheduler, sequence: BudgetSequence) -> None:
        preempt(self, sequence)
        generated = sequence.tokens.output_token_ids  # type: ignore[attr-defined]
        before[tuple(generated)] = len(generated)

    def forgetful(row: torch.Tensor, generated: Any, params: Any) -> None:
        lost = max((count for begun, count in before.items() if tuple(generated[:count]) == begun), default=0)
        penalise(row, generated[lost:], params)

    patch.setattr(TokenBudgetScheduler, "_preempt", noted)
    patch.setattr(logits, "penalise_generated", forgetful)


@budget_output_mutation("the-same-prompt-of-128-again", "used 1, expected 2")
def leave_found_blocks_in_the_free_queue(patch: pytest.MonkeyPatch) -> None:
    """Leave blocks in the free queue when a request finds them. They can be allocated while that request reads them."""
    share = SharedPool.share

    def careless(self: SharedPool, holder: str, found: Any) -> None:
        unheld = [block for block in found if not self.in_use(block)]
        share(self, holder, found)
        for block in unheld:
            self._free[block] = None
            self._free.move_to_end(block, last=False)

    patch.setattr(SharedPool, "share", careless)
