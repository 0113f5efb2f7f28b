"""ModelRunner: the executor that runs a model of ibm-fms with a paged KV cache, on one of the backends."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from checkpoints import Checkpoint
from engine.backends import BACKENDS, label
from engine.backends.compilation import Compilation
from engine.config import EngineConfig
from engine.execution.compiled import CompiledModel
from engine.execution.warm_up import warm_up
from engine.kv_cache.blocks import BLOCK_SIZE
from engine.model.attention import attention_name, attention_tensors
from engine.model.chunk_inputs import aligned_decode_inputs, chunk_inputs
from engine.model.inputs import ModelInputs, decode_inputs, prefill_inputs, token_ids_for, with_outputs
from engine.model.loader import load_model
from engine.model.mixed_inputs import blocks_to_clear, decode_rows, part_in_whole_blocks, part_inputs
from engine.model.prompt_scores import PromptLogits, StepLogits, store_prompt_logprobs, wanted_parts
from engine.model.sampler import sample
from engine.optimized.eager_attention import NAME as EAGER_ATTENTION
from engine.optimized.eager_attention import attention_arguments, without_padding
from engine.optimized.linear import quicken, with_shared_weights
from engine.request import TokenOutput
from engine.scheduling.plan import AlignedDecode, MixedStep, Prefill, PrefillChunk, PromptPart, Runnable
from engine.sequence import SequenceState

Cache = list[tuple[Tensor, Tensor]]


class ModelRunner:
    """An executor that has the weights and the KV cache, runs step plans, and samples tokens.

    ``cache`` has a pair of keys and values for each layer, both of shape ``[blocks, block size, key/value heads, head
    width]``. With ``tensor_parallel_size`` above 1, torch's process group must exist: this process then loads its share
    of the weights and heads, and every process must run the same plans. ``compiled`` is the compiled model; None if the
    backend does not compile. ``written`` has one int64 tensor ``[rows, positions]`` for each forward of the last step:
    the slots of the KV cache that the forward wrote.

    If the warm-up fails, raises DeviceRefusedError (the device does not support a step) or RecompileError (a step does
    not match the graph that was compiled for it).
    """

    def __init__(self, config: EngineConfig, checkpoint: Checkpoint) -> None:
        backend = BACKENDS[config.backend]
        self._backend = label(backend.name)
        self._attention = config.attention_op
        self._seed = config.seed
        self._dtype: torch.dtype = getattr(torch, backend.dtype)
        divided = config.tensor_parallel_size > 1
        self.model = load_model(checkpoint, self._dtype, divided=divided)
        self._block_size = config.tokens_in_a_block
        self.cache = self._empty_cache(config.total_blocks)
        self.compiled: CompiledModel | None = None
        self.written: list[Tensor] = []
        # Compiled models, and attention ``fms``, run without the faster equivalents in engine/optimized.
        self._quick = self._attention == "paged" and not backend.compiled
        if self._quick:
            if not divided:
                self.model = with_shared_weights(self.model)
            quicken(self.model)
        if backend.compiled:
            self.compiled = CompiledModel(self.model, backend)
            warm_up(self.compiled, self._run_blindly, config)
            self._blank(list(range(config.total_blocks)))

    def execute(self, plan: Runnable, sequences: Mapping[str, SequenceState]) -> list[TokenOutput]:
        """Run the plan and return one token for each of ``plan.request_ids``, in that order.

        The logprobs of prompt tokens, if requested, are stored in ``sequences``.
        """
        self.written.clear()
        rows = [sequences[request_id] for request_id in plan.request_ids]
        step = self.step_logits(plan, token_ids_for(plan, rows), wanted_parts(plan, sequences))
        for prompt in step.prompts:
            store_prompt_logprobs(prompt, sequences[prompt.request_id])
        return sample(step.rows, rows, self._seed) if rows else []

    def logits(self, plan: Runnable, token_ids: Sequence[int]) -> Tensor:
        """Run the plan and return the logits to sample from, float32 ``[rows, vocabulary]``.

        There is a row for each of ``plan.request_ids``. ``token_ids`` are the input tokens of the plan, as
        ``token_ids_for`` returns them. With a compiled model, raises RecompileError if the step matches no compiled
        graph, and DeviceRefusedError if the device does not support its tensors.
        """
        return self.step_logits(plan, token_ids, ()).rows

    @torch.inference_mode()
    def step_logits(self, plan: Runnable, token_ids: Sequence[int], parts: Sequence[PromptPart]) -> StepLogits:
        """Run the plan and return the logits to sample from, and the logits of the prompt tokens in ``parts``.

        The logits to sample from are the result of ``logits``. ``parts`` must be empty for a compiled model, whose
        graphs do not return the logits of a whole prompt.
        """
        wanted = {part.request_id: part for part in parts}
        if isinstance(plan, Prefill):
            if self._quick:
                self._blank([plan.blocks[0], plan.blocks[-1]])
            inputs = prefill_inputs(plan, token_ids, self._dtype)
            return self._of_a_prompt(inputs, wanted.get(plan.request_id))
        if isinstance(plan, PrefillChunk):
            return self._of_a_prompt(chunk_inputs(plan), wanted.get(plan.request_id))
        if isinstance(plan, MixedStep):
            return self._mixed(plan, wanted)
        if isinstance(plan, AlignedDecode):
            rows = zip(plan.block_tables, plan.computed, strict=True)
            self._blank([table[-1] for table, computed in rows if computed % BLOCK_SIZE == 0])
            return StepLogits(self.forward(aligned_decode_inputs(plan, token_ids)))
        if plan.tkv % BLOCK_SIZE == 0:
            self._blank([table[-1] for table in plan.block_tables])
        return StepLogits(self.forward(decode_inputs(plan, token_ids)))

    def _of_a_prompt(self, inputs: ModelInputs, part: PromptPart | None) -> StepLogits:
        """Run ``inputs``, consecutive tokens of one request, and return the logits of the last token, to sample from.

        If ``part`` is not None, ``inputs`` are the prompt tokens of ``part``, and the result also has the logits of all
        these tokens.
        """
        if part is None:
            return StepLogits(self.forward(inputs))
        [values] = self._last_logits(inputs, part.stop - part.start)
        return StepLogits(values[-1:], (PromptLogits(part.request_id, part.start, values),))

    def forward(self, inputs: ModelInputs) -> Tensor:
        """Run one forward, which writes new keys and values to the KV cache.

        Return the logits to sample from, float32 ``[rows, vocabulary]``. The caller must be in inference mode.
        """
        return self._last_logits(inputs, 1)[:, 0]

    def _last_logits(self, inputs: ModelInputs, count: int) -> Tensor:
        """Run one forward and return the logits of ``count`` positions, float32 ``[rows, count, vocabulary]``.

        The last of these positions is the one to sample from.
        """
        if self._quick:
            inputs = without_padding(inputs)
        self.written.append(inputs.slot_mapping)
        if self._quick:
            inputs = with_outputs(inputs, count)
            logits = self._run(inputs, EAGER_ATTENTION, attention_arguments(inputs, self.cache[0][0]))
        elif self.compiled is None:
            inputs = with_outputs(inputs, count)
            logits = self._run(inputs, attention_name(self._attention), attention_tensors(self._attention, inputs))
        else:
            tensors = {"input_ids": inputs.input_ids, "position_ids": inputs.position_ids}
            tensors |= attention_tensors(self._attention, inputs)
            others = {"last_n_tokens": inputs.last_n_tokens, "attn_name": attention_name(self._attention)}
            logits, self.cache = self.compiled(inputs.kind, self.cache, tensors, others)
        end = inputs.output_position + 1
        last: Tensor = logits[: inputs.output_rows, end - count : end].float()
        return last

    def _mixed(self, plan: MixedStep, wanted: Mapping[str, PromptPart]) -> StepLogits:
        """Run a mixed step: all decodes in one forward, then each part that is not a decode in a forward of its own.

        The result has a row for each of ``plan.request_ids``, and the logits of the prompt tokens in ``wanted``, which
        has a PromptPart by request id for each request that needs them.
        """
        size, by_request, prompts = self._block_size, dict[str, Tensor](), list[PromptLogits]()
        decodes = [part for part in plan.parts if part.is_decode]
        if decodes:
            self._blank(blocks_to_clear(decodes, size))
            logits = self.forward(decode_rows(decodes, size))
            by_request.update(zip([part.request_id for part in decodes], logits, strict=True))
        for part in plan.parts:
            if part.is_decode:
                continue
            if self._quick:
                self._blank(blocks_to_clear([part], size))
                inputs = part_inputs(part, size)
            else:
                inputs = part_in_whole_blocks(part, size)
            step = self._of_a_prompt(inputs, wanted.get(part.request_id))
            by_request[part.request_id] = step.rows[0]
            prompts += step.prompts
        rows = [by_request[request_id] for request_id in plan.request_ids]
        return StepLogits(torch.stack(rows) if rows else torch.empty(0, 0), tuple(prompts))

    @property
    def compilation(self) -> Compilation | None:
        """Return the summary of what was compiled; None if the backend does not compile."""
        if self.compiled is None:
            return None
        compiled = self.compiled
        return Compilation(self._backend, compiled.graphs, compiled.recompiles, compiled.shared)

    def _run(self, inputs: ModelInputs, attention: str, arguments: Mapping[str, Any]) -> Any:
        """Run the model without compilation, with the attention operation named ``attention`` and its ``arguments``."""
        logits, self.cache = self.model(
            inputs.input_ids,
            position_ids=inputs.position_ids,
            past_key_value_states=self.cache,
            use_cache=True,
            last_n_tokens=inputs.last_n_tokens,
            attn_name=attention,
            **arguments,
        )
        return logits

    def _run_blindly(self, plan: Runnable) -> None:
        """Run a plan of the warm-up, with token id 0 for every token, and ignore the result."""
        count = plan.prompt_length if isinstance(plan, Prefill) else len(plan.request_ids)
        self.logits(plan, [0] * count)

    @torch.inference_mode()
    def _blank(self, blocks: list[int]) -> None:
        """Set ``blocks`` of the KV cache to zero. They are new blocks, and the step writes only a part of each.

        Attention masks the positions that the step does not write, but a NaN of an earlier request in such a position
        would still make the result NaN.
        """
        if not blocks:
            return
        rows = torch.tensor(blocks)
        for tensor in chain.from_iterable(self.cache):
            tensor.index_fill_(0, rows, 0)

    @torch.inference_mode()
    def _empty_cache(self, blocks: int) -> Cache:
        heads, width = self._cache_heads()
        shape = (blocks, self._block_size, heads, width)
        layers = len(self.model.base_model.layers)
        return [(torch.zeros(shape, dtype=self._dtype), torch.zeros(shape, dtype=self._dtype)) for _ in range(layers)]

    def _cache_heads(self) -> tuple[int, int]:
        attention = self.model.base_model.layers[0].attn
        return attention.kvheads, attention.emb_kq_per_head
