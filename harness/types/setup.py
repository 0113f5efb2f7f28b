"""Engine setups, options of schedulers, and scheduling limits."""

from dataclasses import dataclass
from typing import Literal

from harness.types.blocks import BLOCK_SIZE

DEFAULT_SCHEDULER: Literal["continuous"] = "continuous"
"""The scheduler that is used if neither the suite nor the driver names one.

A row of a step table is assumed to be of this scheduler if it has no column that only another scheduler has.
"""


@dataclass(frozen=True)
class ChunkingSetup:
    """Options of the chunked scheduler. docs/scheduling-rules-chunked.md has the rules.

    ``chunk_size`` is in tokens. With ``interleave``, two prefill steps never follow each other while a request is
    decoding. If not all requests can decode within ``max_batch_tkv_limit``, those that have been paused longest decode
    first. Among requests that have been paused equally long, those with the fewest generated tokens decode first or,
    with ``long_output_priority``, those with the most.
    """

    chunk_size: int = 128
    enable_prefix_caching: bool = True
    interleave: bool = True
    long_output_priority: bool = False


TokenBudgetRules = Literal["0.27", "0.32"]
"""The vLLM version whose rules the token-budget scheduler follows: 0.27.1 or 0.32.0."""


@dataclass(frozen=True)
class TokenBudgetSetup:
    """Options of the token-budget scheduler, named as in vLLM.

    ``max_num_batched_tokens`` is the budget: the maximum number of tokens computed in one step.
    ``long_prefill_token_threshold`` is the maximum number of tokens of one request in one step; 0 means no maximum.
    ``rules`` is the vLLM version whose rules the engine must follow. ``block_size`` is the number of tokens in a block
    of the KV cache.
    """

    max_num_batched_tokens: int = 512
    enable_chunked_prefill: bool = True
    enable_prefix_caching: bool = True
    long_prefill_token_threshold: int = 0
    rules: TokenBudgetRules = "0.27"
    block_size: int = BLOCK_SIZE


SchedulerOptions = ChunkingSetup | TokenBudgetSetup
"""The options with which an engine's scheduler is started. Each scheduler that has options has a type of its own."""


@dataclass(frozen=True)
class EngineSetup:
    """The settings of an engine that can't be changed after its start. Cases with equal setups share an engine.

    ``max_model_len`` and ``max_num_seqs`` are upper bounds: a case can set lower SchedulingLimits while the engine
    runs. If ``num_blocks`` is None, the engine chooses the size of its KV cache. ``scheduler`` is ``continuous``,
    ``static`` (a baseline), ``chunked`` or ``token_budget``. ``options`` are the options of the scheduler, None if the
    scheduler has no options.
    """

    model: str
    backend: str
    tensor_parallel_size: int
    max_model_len: int
    max_num_seqs: int
    num_blocks: int | None = None
    scheduler: str = DEFAULT_SCHEDULER
    options: SchedulerOptions | None = None

    @property
    def block_size(self) -> int:
        """Return the number of tokens in a block of the KV cache."""
        return self.options.block_size if isinstance(self.options, TokenBudgetSetup) else BLOCK_SIZE


@dataclass(frozen=True)
class SchedulingLimits:
    """Limits that a case sets while an engine runs. None means the value with which the engine was started.

    ``available_blocks`` is the number of blocks that requests can use, without the padding block.
    ``max_batch_tkv_limit`` is the maximum of batch size x tkv; the token-budget scheduler has no such limit.
    """

    max_model_len: int | None = None
    max_num_seqs: int | None = None
    available_blocks: int | None = None
    max_batch_tkv_limit: int | None = None
