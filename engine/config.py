"""The configuration that an engine is built for (EngineConfig) and the limits of its scheduling (Limits).

Compiling for Spyre is slow. So an engine is built once, with a context and a batch that are large enough for many
workloads. Each workload then sets smaller limits, without building the engine again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from engine.backends import BACKENDS, label
from engine.kv_cache.blocks import BLOCK_SIZE

SMALLEST_BLOCK = 32
"""vLLM's attention on CPU supports block sizes that are multiples of this number of tokens."""
ATTENTION_OPS = ("paged", "fms")
SCHEDULERS = ("continuous", "static", "chunked", "token_budget")
DEFAULT_CHUNK_SIZE = 128
TOKEN_BUDGET_RULES = ("0.27", "0.32")
MAX_BLOCKS = 1_000_000
"""The largest accepted size of a KV cache, far above any useful one: a larger number is a typing error."""


class ConfigError(ValueError):
    """An invalid configuration; the message is one sentence for the user."""


@dataclass(frozen=True)
class Limits:
    """The limits of scheduling. None means the value that the engine was built with.

    ``max_model_len`` is the maximum length of a sequence in tokens: prompt (padded, if the scheduler pads prompts) plus
    new tokens. ``max_num_seqs`` is the maximum number of sequences in a decode. ``available_blocks`` is the number of
    blocks for sequences, without block 0. ``max_batch_tkv_limit`` is the maximum of batch size x tkv, where tkv is the
    padded length of the batch in tokens.
    """

    max_model_len: int | None = None
    max_num_seqs: int | None = None
    available_blocks: int | None = None
    max_batch_tkv_limit: int | None = None


@dataclass(frozen=True)
class ResolvedLimits:
    """``Limits`` in which no value is None. Each value is at most the value that the engine was built with."""

    max_model_len: int
    max_num_seqs: int
    available_blocks: int
    max_batch_tkv_limit: int


@dataclass(frozen=True)
class Chunking:
    """Options of the chunked scheduler, as in the plugin sendnn-inference.

    ``chunk_size`` is in tokens. With ``interleave``, a decode step runs between two chunks of a prompt. If not all
    sequences can decode within ``max_batch_tkv_limit``, some of them pause. Sequences that have been paused longest
    decode first. Among sequences that have been paused equally long, those with the fewest generated tokens decode
    first or, with ``long_output_priority``, those with the most.
    """

    chunk_size: int = DEFAULT_CHUNK_SIZE
    enable_prefix_caching: bool = True
    interleave: bool = True
    long_output_priority: bool = False


@dataclass(frozen=True)
class TokenBudget:
    """Options of the token-budget scheduler. All names except ``rules`` are vLLM's.

    ``max_num_batched_tokens`` is the budget: the maximum number of tokens of one step. Without
    ``enable_chunked_prefill`` a whole prompt is computed in one step. ``long_prefill_token_threshold`` is the maximum
    number of tokens of one request in one step; 0 means unlimited. ``rules`` is the version of vLLM whose rules apply:
    "0.27" for 0.27.1, "0.32" for 0.32.0. ``block_size`` is in tokens; on Spyre it must be 64.
    """

    max_num_batched_tokens: int = 512
    enable_chunked_prefill: bool = True
    enable_prefix_caching: bool = True
    long_prefill_token_threshold: int = 0
    rules: str = "0.27"
    block_size: int = BLOCK_SIZE


OPTIONS: Mapping[str, type[Chunking | TokenBudget]] = {"chunked": Chunking, "token_budget": TokenBudget}
"""The class of options for each scheduler that has options of its own."""


@dataclass(frozen=True)
class EngineConfig:
    """The configuration that an engine is built for.

    ``num_blocks`` is the size of the KV cache in blocks, including block 0, which is only padding; by default the cache
    has room for ``max_num_seqs`` sequences of ``max_model_len`` tokens. ``backend`` is a name in engine/backends.
    ``attention`` is ``paged`` (our vectorised operation), ``fms`` (the operation that ibm-fms ships, which loops over
    tokens), or None for the backend's default; ``attention_op`` is the resolved name. ``scheduler`` is ``continuous``,
    ``static`` (a baseline), ``chunked`` or ``token_budget``. ``tensor_parallel_size`` is the number of processes that
    share the model; with 1 the model runs in the engine's own process. ``seed`` seeds the random generators of requests
    that have no seed. The fields from ``chunk_size`` on are options of one or two schedulers: see ``Chunking`` for
    ``chunked`` and ``TokenBudget`` for ``token_budget``. An option that is None has the default of its class.

    Raises ConfigError for invalid values.
    """

    model: str = "tiny-granite"
    revision: str | None = None
    backend: str = "eager"
    attention: str | None = None
    scheduler: str = "continuous"
    tensor_parallel_size: int = 1
    max_model_len: int = 512
    max_num_seqs: int = 4
    num_blocks: int | None = None
    max_batch_tkv_limit: int | None = None
    seed: int = 0
    chunk_size: int | None = None
    enable_prefix_caching: bool | None = None
    interleave: bool | None = None
    long_output_priority: bool | None = None
    max_num_batched_tokens: int | None = None
    enable_chunked_prefill: bool | None = None
    long_prefill_token_threshold: int | None = None
    rules: str | None = None
    block_size: int | None = None

    def __post_init__(self) -> None:
        _one_of("backend", self.backend, tuple(BACKENDS))
        if self.attention is not None:
            _one_of("attention", self.attention, ATTENTION_OPS)
            self._check_attention(self.attention)
        _one_of("scheduler", self.scheduler, SCHEDULERS)
        _at_least_one(self)
        self._check_options()
        if self.max_model_len % BLOCK_SIZE:
            raise ConfigError(f"max_model_len {self.max_model_len} is not a multiple of {BLOCK_SIZE}")
        if self.total_blocks > MAX_BLOCKS:
            raise ConfigError(
                f"max_num_seqs {self.max_num_seqs} and max_model_len {self.max_model_len} need a KV cache of "
                f"{self.total_blocks:,} blocks of {self.tokens_in_a_block} tokens, "
                f"but at most {MAX_BLOCKS:,} blocks are supported"
            )
        full_length = -(-self.max_model_len // self.tokens_in_a_block)
        if self.available_blocks < full_length:
            raise ConfigError(
                f"the KV cache has {max(0, self.available_blocks)} blocks for sequences, but one sequence of "
                f"max_model_len {self.max_model_len} needs {full_length}: increase num_blocks or reduce max_model_len"
            )

    def _check_attention(self, name: str) -> None:
        known = BACKENDS[self.backend].attention
        if name not in known:
            raise ConfigError(f"attention {name!r} does not run on backend {self.backend}: use {', '.join(known)}")

    @property
    def attention_op(self) -> str:
        """Return the name of the attention operation: ``paged`` or ``fms``."""
        return self.attention or BACKENDS[self.backend].attention[0]

    @property
    def chunking(self) -> Chunking:
        """Return the options of the chunked scheduler. An option that is None gets its default."""
        return Chunking(**self._given(Chunking))

    @property
    def token_budget(self) -> TokenBudget:
        """Return the options of the token-budget scheduler. An option that is None gets its default."""
        return TokenBudget(**self._given(TokenBudget))

    @property
    def pads_prompts(self) -> bool:
        """Return whether the scheduler pads prompts to whole blocks."""
        return self.scheduler != "token_budget"

    @property
    def tokens_in_a_block(self) -> int:
        """Return the block size of the KV cache in tokens."""
        return self.block_size or BLOCK_SIZE

    def _given(self, options: type[Chunking | TokenBudget]) -> dict[str, Any]:
        given = {field.name: getattr(self, field.name) for field in fields(options)}
        return {name: value for name, value in given.items() if value is not None}

    def _check_options(self) -> None:
        known = OPTIONS.get(self.scheduler)
        allowed = {field.name for field in fields(known)} if known else set()
        for scheduler, options in OPTIONS.items():
            for name in self._given(options):
                if name not in allowed:
                    raise ConfigError(
                        f"{name} is an option of scheduler {scheduler!r}, but this engine has scheduler "
                        f"{self.scheduler!r}: leave the option out, or choose another scheduler"
                    )
        if self.chunking.chunk_size % BLOCK_SIZE:
            raise ConfigError(f"chunk_size {self.chunk_size} is not a multiple of {BLOCK_SIZE}")
        if self.scheduler == "token_budget":
            self._check_token_budget()

    def _check_token_budget(self) -> None:
        _one_of("rules", self.token_budget.rules, TOKEN_BUDGET_RULES)
        if self.max_batch_tkv_limit is not None:
            raise ConfigError(
                "max_batch_tkv_limit is not a limit of scheduler 'token_budget', which has no tkv: leave it out"
            )
        if self.tokens_in_a_block % SMALLEST_BLOCK:
            raise ConfigError(f"block_size {self.block_size} is not a multiple of {SMALLEST_BLOCK}")
        if self.backend == "sendnn" and self.tokens_in_a_block != BLOCK_SIZE:
            raise ConfigError(f"block_size {self.block_size} does not run on backend sendnn: use {BLOCK_SIZE}")

    @property
    def total_blocks(self) -> int:
        """Return the number of blocks of the KV cache, including the padding block.

        Source: docs/scheduling-rules.md, "Limits".
        """
        if self.scheduler == "token_budget":
            full = self.max_num_seqs * -(-self.max_model_len // self.tokens_in_a_block)
            return full + 1 if self.num_blocks is None else self.num_blocks
        if self.num_blocks is not None:
            return self.num_blocks // self.max_num_seqs * self.max_num_seqs
        wanted = self.max_num_seqs * self.max_model_len // BLOCK_SIZE + 1
        return -(-wanted // self.max_num_seqs) * self.max_num_seqs

    @property
    def available_blocks(self) -> int:
        """Return the number of blocks for sequences: all blocks except block 0, the padding block."""
        return self.total_blocks - 1

    @property
    def batch_tkv_limit(self) -> int:
        """Return the limit on batch size x tkv: ``max_batch_tkv_limit`` or its default."""
        return self.max_batch_tkv_limit or self.max_model_len * self.max_num_seqs


def resolve_limits(config: EngineConfig, limits: Limits) -> ResolvedLimits:
    """Return ``limits`` with each None replaced by the value that ``config`` gives.

    Raises ConfigError if a limit is below 1 or above the value that the engine was built with.
    """
    _at_least_one(limits)
    built = ResolvedLimits(config.max_model_len, config.max_num_seqs, config.available_blocks, config.batch_tkv_limit)
    for field in fields(limits):
        value, most = getattr(limits, field.name), getattr(built, field.name)
        if value is not None and value > most:
            raise ConfigError(f"{field.name} {value} exceeds the {most} that the engine was built with")
    chosen = {f.name: getattr(limits, f.name) or getattr(built, f.name) for f in fields(limits)}
    return ResolvedLimits(**chosen)


def require_hardware(backend: str) -> None:
    """Raise ConfigError if ``backend`` would be simulated on this machine, because ``torch_sendnn`` is missing."""
    if label(backend) != backend:
        raise ConfigError(f"backend {label(backend)} is not hardware: torch_sendnn is not installed; install it")


def _at_least_one(values: EngineConfig | Limits) -> None:
    for field in fields(values):
        value = getattr(values, field.name)
        if not isinstance(value, int) or isinstance(value, bool) or field.name == "seed":
            continue
        least = 0 if field.name == "long_prefill_token_threshold" else 1
        if value < least:
            raise ConfigError(f"{field.name} must be at least {least}, not {value}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} {value!r} is not known: choose from {', '.join(known)}")
