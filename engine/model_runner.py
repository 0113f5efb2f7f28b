"""The executor that runs a real model: ibm-fms on CPU with a paged KV cache."""

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
from fms.models import get_model
from torch import Tensor, distributed

from checkpoints import Checkpoint
from engine.attention import attention_kwargs
from engine.batch import ModelInputs, decode_inputs, prefill_inputs, token_ids_for
from engine.chunk_batch import aligned_decode_inputs, chunk_inputs
from engine.config import EngineConfig
from engine.request import TokenOutput
from engine.sampler import sample
from engine.scheduling.padding import BLOCK_SIZE
from engine.scheduling.plan import AlignedDecode, Prefill, PrefillChunk, Runnable
from engine.sequence import SequenceState

Cache = list[tuple[Tensor, Tensor]]


class ModelRunner:
    """Holds the weights and the KV cache; turns a plan into sampled tokens.

    ``cache`` has, per layer, keys and values of shape ``[blocks, 64, key/value heads, head width]``. Where
    ``tensor_parallel_size`` is more than 1, torch's process group must be there: this process has one part of the
    weights and of the heads then, and every process must be given the same plans.
    """

    def __init__(self, config: EngineConfig, checkpoint: Checkpoint) -> None:
        self._attention = config.attention
        self._seed = config.seed
        self._dtype = torch.float32
        divided = {"distributed_strategy": "tp", "group": distributed.group.WORLD}
        self.model = get_model(
            "hf_pretrained",
            model_path=str(checkpoint.path),
            device_type="cpu",
            data_type=self._dtype,
            fused_weights=False,
            **(divided if config.tensor_parallel_size > 1 else {}),
        ).eval()
        self.cache = self._empty_cache(config.total_blocks)

    def execute(self, plan: Runnable, sequences: Mapping[str, SequenceState]) -> list[TokenOutput]:
        """Run the plan; one token for each of ``plan.request_ids``, in that order."""
        rows = [sequences[request_id] for request_id in plan.request_ids]
        logits = self.logits(plan, token_ids_for(plan, rows))
        return sample(logits, rows, self._seed) if rows else []

    def logits(self, plan: Runnable, token_ids: Sequence[int]) -> Tensor:
        """Logits to sample from, float32 ``[rows, vocabulary]``; ``token_ids`` as ``token_ids_for`` has them."""
        if isinstance(plan, Prefill):
            return self.forward(prefill_inputs(plan, token_ids))
        if isinstance(plan, PrefillChunk):
            return self.forward(chunk_inputs(plan))
        if isinstance(plan, AlignedDecode):
            rows = zip(plan.block_tables, plan.computed, strict=True)
            self._blank([table[-1] for table, computed in rows if computed % BLOCK_SIZE == 0])
            return self.forward(aligned_decode_inputs(plan, token_ids))
        if plan.tkv % BLOCK_SIZE == 0:
            self._blank([table[-1] for table in plan.block_tables])
        return self.forward(decode_inputs(plan, token_ids))

    @torch.inference_mode()
    def forward(self, inputs: ModelInputs) -> Tensor:
        """Logits to sample from, float32 ``[rows, vocabulary]``; writes the new keys and values to the cache."""
        logits, self.cache = self.model(
            inputs.input_ids,
            position_ids=inputs.position_ids,
            past_key_value_states=self.cache,
            use_cache=True,
            last_n_tokens=inputs.last_n_tokens,
            **attention_kwargs(self._attention, inputs),
        )
        sampled: Tensor = logits[: inputs.output_rows, inputs.output_position]
        return sampled

    @torch.inference_mode()
    def _blank(self, blocks: list[int]) -> None:
        """Clear blocks just taken by a decode, which writes them a token at a time.

        Attention masks the rest of a block, but a NaN that an earlier request left there would come through.
        """
        for tensor in chain.from_iterable(self.cache):
            tensor[blocks] = 0

    def _empty_cache(self, blocks: int) -> Cache:
        heads, width = self._cache_heads()
        shape = (blocks, BLOCK_SIZE, heads, width)
        layers = len(self.model.base_model.layers)
        return [(torch.zeros(shape, dtype=self._dtype), torch.zeros(shape, dtype=self._dtype)) for _ in range(layers)]

    def _cache_heads(self) -> tuple[int, int]:
        attention = self.model.base_model.layers[0].attn
        return attention.kvheads, attention.emb_kq_per_head
