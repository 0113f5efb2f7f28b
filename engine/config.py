"""What an engine is built for (EngineConfig) and what its scheduling may use (Limits).

Compiling for Spyre is slow, so an engine is built once for a robust shape; limits are tightened from one
workload to the next without building it again.
"""

from dataclasses import dataclass, fields
from typing import Any

from engine.backends import BACKENDS, label
from engine.scheduling.padding import BLOCK_SIZE, blocks_for

ATTENTION_OPS = ("paged", "fms")
SCHEDULERS = ("continuous", "static", "chunked")
DEFAULT_CHUNK_SIZE = 128
MAX_BLOCKS = 1_000_000
"""No cache that is built is anywhere near as large; more than this is a slip of the keyboard."""


class ConfigError(ValueError):
    """A configuration that cannot work; the message is one sentence for the person who wrote it."""


@dataclass(frozen=True)
class Limits:
    """What scheduling may use. ``None`` means: what the engine was built with.

    ``max_model_len`` bounds a sequence (padded prompt plus new tokens, in tokens), ``max_num_seqs`` the decode
    batch, ``available_blocks`` the blocks for sequences (block 0 not counted), ``max_batch_tkv_limit`` the
    product of batch size and tkv.
    """

    max_model_len: int | None = None
    max_num_seqs: int | None = None
    available_blocks: int | None = None
    max_batch_tkv_limit: int | None = None


@dataclass(frozen=True)
class ResolvedLimits:
    """Limits with every number filled in, checked against the engine they are for."""

    max_model_len: int
    max_num_seqs: int
    available_blocks: int
    max_batch_tkv_limit: int


@dataclass(frozen=True)
class Chunking:
    """Options of the chunked scheduler, as the plugin has them.

    ``chunk_size`` in tokens. With ``interleave`` whoever decodes has a turn between two chunks. With
    ``long_output_priority`` those that generated most are paused last, else those that generated least.
    """

    chunk_size: int = DEFAULT_CHUNK_SIZE
    enable_prefix_caching: bool = True
    interleave: bool = True
    long_output_priority: bool = False


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is built for.

    ``num_blocks`` counts the padding block too and overrides the default, which is enough for
    ``max_num_seqs`` sequences of full length. ``backend`` as in engine/backends. ``attention`` is ``paged`` (our
    vectorised operation) or ``fms`` (the one ibm-fms ships, which loops over tokens), None the backend's usual one;
    ``attention_op`` is which that is. ``scheduler`` is ``continuous``, ``static`` as a foil, or ``chunked``, which
    alone takes the options of ``Chunking``; None leaves one as it is there.
    ``tensor_parallel_size`` is among how many processes the model is divided; with 1 it runs in this one.
    ``seed`` feeds requests that sample without a seed of their own.

    Raises ConfigError for numbers and names that cannot work.
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

    def __post_init__(self) -> None:
        _one_of("backend", self.backend, tuple(BACKENDS))
        if self.attention is not None:
            _one_of("attention", self.attention, ATTENTION_OPS)
            self._check_attention(self.attention)
        _one_of("scheduler", self.scheduler, SCHEDULERS)
        _at_least_one(self)
        self._check_chunking()
        if self.max_model_len % BLOCK_SIZE:
            raise ConfigError(f"max_model_len {self.max_model_len} is not a multiple of {BLOCK_SIZE}")
        if self.total_blocks > MAX_BLOCKS:
            raise ConfigError(
                f"max_num_seqs {self.max_num_seqs} and max_model_len {self.max_model_len} need a cache of "
                f"{self.total_blocks:,} blocks of {BLOCK_SIZE} tokens, and {MAX_BLOCKS:,} are the most"
            )
        full_length = blocks_for(self.max_model_len)
        if self.available_blocks < full_length:
            raise ConfigError(
                f"the cache has {max(0, self.available_blocks)} blocks for sequences, but one sequence of "
                f"max_model_len {self.max_model_len} needs {full_length}"
            )

    def _check_attention(self, asked: str) -> None:
        known = BACKENDS[self.backend].attention
        if asked not in known:
            raise ConfigError(f"attention {asked!r} does not run on backend {self.backend}: say {', '.join(known)}")

    @property
    def attention_op(self) -> str:
        """``paged`` or ``fms``."""
        return self.attention or BACKENDS[self.backend].attention[0]

    @property
    def chunking(self) -> Chunking:
        """The options of the chunked scheduler."""
        return Chunking(**self._said_of_chunking)

    @property
    def _said_of_chunking(self) -> dict[str, Any]:
        said = {field.name: getattr(self, field.name) for field in fields(Chunking)}
        return {name: value for name, value in said.items() if value is not None}

    def _check_chunking(self) -> None:
        said = list(self._said_of_chunking)
        if said and self.scheduler != "chunked":
            raise ConfigError(f"{said[0]} is an option of scheduler 'chunked', and this one is {self.scheduler!r}")
        if self.chunking.chunk_size % BLOCK_SIZE:
            raise ConfigError(f"chunk_size {self.chunk_size} is not a multiple of {BLOCK_SIZE}")

    @property
    def total_blocks(self) -> int:
        """All blocks of the cache, the padding block among them ("Limits")."""
        if self.num_blocks is not None:
            return self.num_blocks // self.max_num_seqs * self.max_num_seqs
        wanted = self.max_num_seqs * self.max_model_len // BLOCK_SIZE + 1
        return -(-wanted // self.max_num_seqs) * self.max_num_seqs

    @property
    def available_blocks(self) -> int:
        """Blocks for sequences."""
        return self.total_blocks - 1

    @property
    def volume_limit(self) -> int:
        """The most batch size x tkv may be."""
        return self.max_batch_tkv_limit or self.max_model_len * self.max_num_seqs


def resolve_limits(config: EngineConfig, limits: Limits) -> ResolvedLimits:
    """Fill in what ``limits`` leaves open.

    Raises ConfigError where a limit is below 1 or beyond what the engine was built for: limits tighten.
    """
    _at_least_one(limits)
    built = ResolvedLimits(config.max_model_len, config.max_num_seqs, config.available_blocks, config.volume_limit)
    for field in fields(limits):
        asked, most = getattr(limits, field.name), getattr(built, field.name)
        if asked is not None and asked > most:
            raise ConfigError(f"{field.name} {asked} is more than the {most} the engine was built with")
    chosen = {f.name: getattr(limits, f.name) or getattr(built, f.name) for f in fields(limits)}
    return ResolvedLimits(**chosen)


def require_hardware(backend: str) -> None:
    """Return if that backend would not be simulated here. Raises ConfigError."""
    if label(backend) != backend:
        raise ConfigError(f"backend {label(backend)} is no hardware: torch_sendnn is not installed here")


def _at_least_one(values: EngineConfig | Limits) -> None:
    for field in fields(values):
        value = getattr(values, field.name)
        if isinstance(value, int) and not isinstance(value, bool) and field.name != "seed" and value < 1:
            raise ConfigError(f"{field.name} must be at least 1, not {value}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} {value!r} is not known: choose from {', '.join(known)}")
