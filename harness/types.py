"""Shared value types: engine setups, limits, requests, tokens, steps, runs and verdicts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

BLOCK_SIZE = 64
"""Number of tokens in one block (page) of the KV cache. The Spyre card allows no other block size."""


DEFAULT_SCHEDULER: Literal["continuous"] = "continuous"
"""The scheduler that is used if neither the suite nor the driver names one.

A row of a step table is also taken to be of this scheduler if none of its columns identifies another one.
"""


def ceil_div(number: int, divisor: int) -> int:
    """Return ``number / divisor`` rounded up to a whole number."""
    return -(-number // divisor)


def blocks_for(tokens: int) -> int:
    """Return the number of blocks that ``tokens`` tokens need."""
    return ceil_div(tokens, BLOCK_SIZE)


@dataclass(frozen=True)
class ChunkingSetup:
    """Options of the chunked scheduler.

    ``chunk_size`` is in tokens. docs/writing-cases.md describes the other options.
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
    ``long_prefill_token_threshold`` is the maximum number of tokens of one request in one step; 0 means no threshold.
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
    """The compile shape and scheduler with which an engine is started. Scheduling limits are not part of it.

    With ``num_blocks`` None the engine chooses the size of its KV cache. ``scheduler`` is ``continuous``, ``static`` (a
    baseline), ``chunked`` or ``token_budget``. ``options`` are the options of that scheduler, None if it has none.
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
    """Upper bounds for scheduling. A limit that is None is that with which the engine was started."""

    max_model_len: int | None = None
    max_num_seqs: int | None = None
    available_blocks: int | None = None
    max_batch_tkv_limit: int | None = None


STRUCTURE_KINDS = ("json", "regex", "choice", "grammar", "json_object")


@dataclass(frozen=True)
class Structure:
    """A constraint of an answer. ``kind`` is one of STRUCTURE_KINDS, named as in vLLM's ``structured_outputs``.

    ``text`` is a JSON schema, a regular expression, a list of texts in JSON or a grammar. It is ``true`` for the kind
    ``json_object``, with which an answer is any JSON object.
    """

    kind: str
    text: str

    def arguments(self) -> dict[str, Any]:
        """Return the constraint in the form of vLLM's argument ``structured_outputs``."""
        return {self.kind: json.loads(self.text) if self.kind in ("choice", "json_object") else self.text}

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"


@dataclass(frozen=True)
class RequestSpec:
    """One request in the form that drivers take. ``request_id`` is the position of the request in its case.

    ``logprobs`` is the number of top tokens to return at each position. With ``golden_token_ids``, a driver with the
    capability ``golden-tokens`` returns these tokens instead of sampled ones. ``simulated_token_ids`` are the tokens
    that a model would generate, for drivers that run no model.
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
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    logprobs: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    structured_outputs: Structure | None = None
    prompt_logprobs: int | None = None
    golden_token_ids: tuple[int, ...] = ()
    simulated_token_ids: tuple[int, ...] = ()

    @property
    def changes_logits(self) -> bool:
        """Return whether a penalty, bias, allow list or bad word changes which token is chosen."""
        penalised = self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1
        return bool(penalised or self.logit_bias or self.allowed_token_ids is not None or self.bad_words)

    def within(self, max_model_len: int | None) -> "RequestSpec":
        """Return this request with ``max_tokens`` reduced to what fits a context of ``max_model_len`` tokens.

        A sequence ends when prompt and generated tokens together fill the context (docs/scheduling-rules.md, "One
        step", 4). If the prompt alone fills the context, the sequence ends after its first token. With
        ``max_model_len`` None (not known) the request is returned unchanged.
        """
        room = self.max_tokens if max_model_len is None else max(1, max_model_len - len(self.prompt_token_ids))
        if self.max_tokens <= room:
            return self
        return replace(self, max_tokens=room, min_tokens=min(self.min_tokens, room))


class Token(NamedTuple):
    """A generated token. ``logprob`` is the natural logarithm of its probability under the model's raw logits.

    ``rank`` is the token's rank among all tokens, from 1. ``top`` holds the top tokens as (token id, logprob), best
    first, as many as the request's ``logprobs``. All three are unset if the driver lacks the capability ``logprobs``.
    """

    token_id: int
    logprob: float | None = None
    rank: int | None = None
    top: tuple[tuple[int, float], ...] = ()


class Write(NamedTuple):
    """What a step wrote to the KV cache for one request.

    ``table`` has the ids of the blocks that it held, oldest first. ``slots`` are the positions in the cache that were
    written: block id times 64, plus the offset in the block; without those of the padding block. ``computed`` is the
    number of its tokens in the cache after the step, 0 if the driver does not report it.
    """

    request: int
    table: tuple[int, ...]
    slots: tuple[int, ...]
    computed: int = 0


class StepRow(NamedTuple):
    """One row of a step table: the observable state after a step.

    Requests are named by their position in the case, from 0. ``waiting`` is in order of arrival, ``running`` newest
    first. ``outputs`` are the requests that got a token in this step, ``finished`` those of them that ended with it.
    ``reserved`` and ``used`` count blocks; None if the driver can't observe them.

    Columns that a scheduler does not have are None. ``paused`` and ``hits`` are columns of the chunked scheduler.
    ``paused`` is in the order in which requests are resumed. ``hits`` holds (request, number of prefix blocks found in
    the cache and not computed again).

    The token-budget scheduler has no ``tkv`` and no ``reserved``. Its ``running`` is in the order in which requests
    joined. Its ``hits`` holds (request, tokens) for the admissions of this step, without requests with 0 tokens.
    ``scheduled`` holds (request, tokens computed in the step) in scheduling order; ``preempted`` are the requests that
    lost their blocks in the step, the first evicted first.

    ``kind`` is prefill, decode, mixed, idle or start; expected tables leave it empty. ``block_tables`` is in the order
    of ``tabled``, and empty if the driver can't observe block ids. ``writes`` is in the order in which the step
    computes its requests; None if the driver can't observe them. A row may be omitted if it is a plain decode:
    compared with the row before, tkv grows by one, the same sequences run, and no request joins, ends or takes a block.
    """

    step: int
    tkv: int | None
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
    writes: tuple[Write, ...] | None = None

    @property
    def tkv_or_0(self) -> int:
        """Return tkv, 0 for schedulers that have none."""
        return self.tkv or 0

    @property
    def tabled(self) -> tuple[int, ...]:
        """Return the requests to which the entries of ``block_tables`` belong.

        These are the scheduled requests if ``scheduled`` is known, else the requests that got a token.
        """
        return self.outputs if self.scheduled is None else tuple(request for request, _ in self.scheduled)


@dataclass(frozen=True)
class Run:
    """The result of running a workload: its step table and, by request, the generated tokens.

    ``unfinished`` is the reason why the run was stopped early, None if it ran to its end. ``traceback`` is that of an
    engine failure. ``step_seconds`` has the duration of each step in seconds, 0 for step 0.
    """

    steps: tuple[StepRow, ...]
    tokens: Sequence[tuple[Token, ...]]
    unfinished: str | None = None
    traceback: tuple[str, ...] = ()
    step_seconds: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Verdict:
    """The result of a check. ``headline`` is one line; ``details`` are the lines below it; ``data`` is for reports.

    ``data`` holds builtins only, because it is sent between processes.
    """

    passed: bool
    headline: str
    details: tuple[str, ...] = ()
    rule: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def failures(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts that did not pass."""
    return [verdict for verdict in verdicts if not verdict.passed]
