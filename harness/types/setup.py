"""Engine setups, options of schedulers, and scheduling limits."""

from dataclasses import dataclass
from typing import Literal

DEFAULT_SCHEDULER: Literal["continuous"] = "continuous"
"""The scheduler that is used if neither the suite nor the driver names one.

A row of a step table is also taken to be of this scheduler if none of its columns identifies another one.
"""


@dataclass(frozen=True)
class ChunkingSetup:
    """Options of the chunked scheduler. docs/scheduling-rules-chunked.md has the rules.

    ``chunk_size`` is in tokens. With ``interleave``, no prefill step follows another one while a request is decoding.
    With ``long_output_priority``, the requests with the fewest generated tokens are paused first, otherwise those with
    the most.
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
    ``rules`` is the vLLM version whose rules the engine must follow.
    """

    max_num_batched_tokens: int = 512
    enable_chunked_prefill: bool = True
    enable_prefix_caching: bool = True
    long_prefill_token_threshold: int = 0
    rules: TokenBudgetRules = "0.27"


SchedulerOptions = ChunkingSetup | TokenBudgetSetup
"""Options with which an engine's scheduler is started. One type for each scheduler that has options."""


@dataclass(frozen=True)
class EngineSetup:
    """What can't be changed after an engine is started: model, shape and scheduler. Equal setups share an engine.

    ``max_model_len`` and ``max_num_seqs`` are the largest that the engine can have: a case can set lower
    SchedulingLimits while the engine runs. With ``num_blocks`` None the engine chooses the size of its KV cache.
    ``scheduler`` is ``continuous``, ``static`` (a baseline), ``chunked`` or ``token_budget``. ``options`` are the
    options of that scheduler, None if it has none.
    """

    model: str
    backend: str
    tensor_parallel_size: int
    max_model_len: int
    max_num_seqs: int
    num_blocks: int | None = None
    scheduler: str = DEFAULT_SCHEDULER
    options: SchedulerOptions | None = None


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
