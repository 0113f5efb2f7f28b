"""What every layer speaks of: engines, limits, requests, tokens, steps, runs and verdicts, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

BLOCK_SIZE = 64
"""Tokens in one block (page) of the KV cache; fixed by the card."""


DEFAULT_SCHEDULER: Literal["continuous"] = "continuous"
"""How requests are batched where no suite and no driver says it; rows without a column of another's are of it."""


def ceil_div(number: int, divisor: int) -> int:
    """The quotient rounded up."""
    return -(-number // divisor)


def blocks_for(tokens: int) -> int:
    """The blocks that hold ``tokens`` tokens."""
    return ceil_div(tokens, BLOCK_SIZE)


@dataclass(frozen=True)
class ChunkingSetup:
    """Options of the chunked scheduler: ``chunk_size`` in tokens; what the others mean is in the suite format."""

    chunk_size: int = 128
    enable_prefix_caching: bool = True
    interleave: bool = True
    long_output_priority: bool = False


TokenBudgetRules = Literal["0.27", "0.32"]
"""Which vLLM's rules the token-budget scheduler follows: those of 0.27.1, or those of 0.32.0."""


@dataclass(frozen=True)
class TokenBudgetSetup:
    """Options of the token-budget scheduler, by vLLM's names.

    ``max_num_batched_tokens`` is the budget: tokens that one step may compute. ``long_prefill_token_threshold`` is the
    most tokens of one request in one step, 0 for no threshold.
    """

    max_num_batched_tokens: int = 512
    enable_chunked_prefill: bool = True
    enable_prefix_caching: bool = True
    long_prefill_token_threshold: int = 0
    rules: TokenBudgetRules = "0.27"


SchedulerOptions = ChunkingSetup | TokenBudgetSetup
"""Options of a scheduler that an engine is started with, whichever it is."""


@dataclass(frozen=True)
class EngineSetup:
    """What an engine is started for: the compile shape, not the scheduling limits.

    ``num_blocks`` None leaves the size of the cache to the engine. ``scheduler`` is how requests are batched:
    ``continuous``, ``static`` as a baseline, ``chunked`` or ``token_budget``. ``options`` are the scheduler's own, None
    where it has none.
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
    """What scheduling may use; None: what the engine was started with. Units as in EngineSetup."""

    max_model_len: int | None = None
    max_num_seqs: int | None = None
    available_blocks: int | None = None
    max_batch_tkv_limit: int | None = None


@dataclass(frozen=True)
class RequestSpec:
    """One request. ``request_id`` is its position in the case.

    ``logprobs`` is how many top tokens are wanted at each position. ``golden_token_ids`` are given out in place of what
    would be sampled, for drivers with ``golden-tokens``. ``simulated_token_ids`` are for drivers without
    tokens of their own: what a model would generate.
    """

    request_id: int
    prompt_token_ids: tuple[int, ...]
    max_tokens: int
    ignore_eos: bool = True
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    logprobs: int = 0
    golden_token_ids: tuple[int, ...] = ()
    simulated_token_ids: tuple[int, ...] = ()

    def within(self, max_model_len: int | None) -> "RequestSpec":
        """The same with as many tokens as it gets in a context of ``max_model_len`` tokens (None: not known).

        A sequence ends where prompt and generated tokens together fill the context (docs/scheduling-rules.md, "One
        step", 4), and after its first token where the prompt fills it alone.
        """
        room = self.max_tokens if max_model_len is None else max(1, max_model_len - len(self.prompt_token_ids))
        if self.max_tokens <= room:
            return self
        return replace(self, max_tokens=room, min_tokens=min(self.min_tokens, room))


class Token(NamedTuple):
    """A generated token with its logprob: the natural logarithm of its probability under the model's raw logits.

    ``rank`` is its place among all tokens, from 1, ``top`` the top tokens as (token id, logprob), best first, as many
    as the request wants. Without ``logprobs`` the driver has none of them.
    """

    token_id: int
    logprob: float | None = None
    rank: int | None = None
    top: tuple[tuple[int, float], ...] = ()


class StepRow(NamedTuple):
    """One row of a step table: what can be seen after a step. Requests are named by their position in the case, from 0.

    ``waiting`` in the order of arrival, ``running`` newest first, ``outputs`` those that got a token in the step that
    just ran, ``finished`` those of them that ended. ``reserved`` and ``used`` count blocks, None where the driver can't
    see them. Columns that not every scheduler has are None elsewhere: ``paused`` in the order in which they are taken,
    ``hits`` as (request, blocks of its prefix that were found and not computed again).

    The token-budget scheduler has no tkv (0) and no ``reserved``; ``running`` is in the order in which requests joined,
    and ``hits`` are those of this step's admissions as (request, tokens), without those of no tokens. ``scheduled`` has
    (request, tokens computed in the step) in the order in which they were scheduled, ``preempted`` those that lost
    their blocks in the step, the first evicted first.

    ``kind`` is prefill, decode, mixed, idle or start, empty in expected tables, which don't say it. ``block_tables``
    goes by position like ``tabled``; empty where the driver can't see blocks by id. Rows that are left out between two
    given ones are plain decodes: tkv grows by one, the same sequences run, and no request comes, goes or takes a block.
    """

    step: int
    tkv: int
    waiting: tuple[int, ...]
    running: tuple[int, ...]
    outputs: tuple[int, ...]
    finished: tuple[int, ...]
    reserved: int | None = None
    used: int | None = None
    paused: tuple[int, ...] | None = None
    hits: tuple[tuple[int, int], ...] | None = None
    kind: str = ""
    block_tables: tuple[tuple[int, ...], ...] = ()
    scheduled: tuple[tuple[int, int], ...] | None = None
    preempted: tuple[int, ...] | None = None

    @property
    def tabled(self) -> tuple[int, ...]:
        """The requests that ``block_tables`` goes by: those that were scheduled, else those that got a token."""
        return self.outputs if self.scheduled is None else tuple(request for request, _ in self.scheduled)


@dataclass(frozen=True)
class Run:
    """A workload that ran: its step table and, by request, the tokens it got.

    ``unfinished`` says why it was broken off, where it was; ``traceback`` is that of an engine that failed.
    """

    steps: tuple[StepRow, ...]
    tokens: Sequence[tuple[Token, ...]]
    unfinished: str | None = None
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """``headline`` is one line; ``details`` are the lines below it; ``data`` is what reports show of it.

    ``data`` holds builtins only: it crosses process borders.
    """

    passed: bool
    headline: str
    details: tuple[str, ...] = ()
    rule: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def failures(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those that did not pass."""
    return [verdict for verdict in verdicts if not verdict.passed]
