"""Requests to the engine and their outputs; names as in vLLM."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from math import inf, isnan
from typing import NamedTuple

from engine.structured_outputs import SamplingParamsError as SamplingParamsError
from engine.structured_outputs import StructuredOutputsParams

MAX_LOGPROBS = 20
MAX_BIAS = 100.0
SEEDS = range(-(2**63), 2**63)
"""The accepted seeds. The ``n`` answers to a request have the seeds ``seed`` to ``seed + n - 1``."""


class FinishReason(StrEnum):
    """The reason why a request ended."""

    LENGTH = "length"
    STOP = "stop"
    ABORT = "abort"
    ERROR = "error"


class RequestOutputKind(Enum):
    """The content of each output of a stream.

    CUMULATIVE: all tokens so far. DELTA: only the new tokens. FINAL_ONLY: a single output at the end, with all tokens.
    """

    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen, and when a request ends; the names are vLLM's.

    ``temperature`` 0 is greedy and ignores ``top_k`` (0 or -1: all), ``top_p``, ``min_p`` and ``seed``. ``logprobs`` is
    the number of alternatives per token in addition to the chosen one (0 to 20, None: no logprobs). With ``max_tokens``
    None a request gets as many tokens as the context allows. Before ``min_tokens`` tokens are generated, the
    end-of-sequence token and ``stop_token_ids`` cannot be sampled and ``stop`` strings are ignored.
    ``golden_token_ids`` replace the first tokens that are sampled (teacher forcing), so that an engine can be compared
    with a reference at every position; logprobs are still computed by the model. Only AsyncLLM uses ``output_kind``.

    ``presence_penalty`` and ``frequency_penalty`` (-2 to 2) are OpenAI's and count generated tokens;
    ``repetition_penalty`` (above 0, 1: none) is Hugging Face's and counts prompt tokens too. ``logit_bias`` maps token
    ids to values that are added to their logits, clamped to -100 to 100 as in vLLM. With ``allowed_token_ids`` None,
    all tokens are allowed. ``bad_words`` are strings that must not be generated; entry points convert them to
    ``bad_words_token_ids``, which the core uses. The parameters of this paragraph apply before temperature, to greedy
    requests too (engine/model/logits.py).

    ``truncate_prompt_tokens`` is the number of prompt tokens to keep, counted from the end of the prompt (-1: as many
    as leave room for one new token; None: all).
    ``structured_outputs`` prescribes the format of the answer; EOS can be sampled only where the answer is complete.
    ``prompt_logprobs`` is the number of alternatives per prompt token (0 to 20, None: no logprobs of the prompt). As in
    vLLM, a request with ``prompt_logprobs`` does not read the prefix cache, because only computed positions have
    logits.

    Raises SamplingParamsError for invalid values.
    """

    n: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    max_tokens: int | None = 16
    min_tokens: int = 0
    stop: str | tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...] = ()
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    bad_words_token_ids: tuple[tuple[int, ...], ...] = ()
    structured_outputs: StructuredOutputsParams | None = None
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    truncate_prompt_tokens: int | None = None
    golden_token_ids: tuple[int, ...] = ()
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        object.__setattr__(self, "golden_token_ids", tuple(self.golden_token_ids))
        object.__setattr__(self, "logit_bias", _clamped(self.logit_bias))
        object.__setattr__(self, "bad_words", tuple(self.bad_words))
        object.__setattr__(self, "bad_words_token_ids", tuple(map(tuple, self.bad_words_token_ids)))
        if self.allowed_token_ids is not None:
            object.__setattr__(self, "allowed_token_ids", tuple(self.allowed_token_ids))
        _require(self.n >= 1, "n must be at least 1", self.n)
        _require(0 <= self.temperature < inf, "temperature must be 0 or more, and finite", self.temperature)
        _require(self.top_k >= -1, "top_k must be -1 (all), 0 (all) or more", self.top_k)
        _require(0 < self.top_p <= 1, "top_p must be above 0 and at most 1", self.top_p)
        _require(0 <= self.min_p <= 1, "min_p must be between 0 and 1", self.min_p)
        _require(self.seed is None or self.seed in SEEDS, "seed must be a 64-bit integer", self.seed)
        highest = SEEDS.stop - self.n
        _require((self.seed or 0) <= highest, f"seed must be at most {highest} with n {self.n}", self.seed)
        _require(self.min_tokens >= 0, "min_tokens must be 0 or more", self.min_tokens)
        _require(self.max_tokens is None or self.max_tokens >= 1, "max_tokens must be at least 1", self.max_tokens)
        _require(
            self.max_tokens is None or self.min_tokens <= self.max_tokens,
            f"min_tokens must not exceed max_tokens {self.max_tokens}",
            self.min_tokens,
        )
        for name, count in (("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)):
            _require(count is None or 0 <= count <= MAX_LOGPROBS, f"{name} must be between 0 and {MAX_LOGPROBS}", count)
        _check_penalties(self)
        _require(all(stop), "stop strings must have at least one character", list(stop))
        _require(self.n == 1 or not self.greedy, "n must be 1 with temperature 0 (greedy)", self.n)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def changes_logits(self) -> bool:
        """Return whether a parameter other than ``min_tokens`` changes logits before a token is chosen."""
        return bool(
            self.presence_penalty
            or self.frequency_penalty
            or self.repetition_penalty != 1
            or self.logit_bias
            or self.allowed_token_ids is not None
            or self.bad_words_token_ids
        )

    @property
    def biases(self) -> tuple[tuple[int, float], ...]:
        """Return ``logit_bias`` as a tuple of pairs (token id, value), even if it was given as a mapping."""
        return _clamped(self.logit_bias) if isinstance(self.logit_bias, Mapping) else self.logit_bias

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Return ``stop`` as a tuple, also if it is a single string."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop


def _clamped(bias: Mapping[int, float] | Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Return ``logit_bias`` as pairs sorted by token id, with values clamped to -100 and 100.

    Raises SamplingParamsError for NaN.
    """
    pairs = sorted(dict(bias).items())
    _require(all(not isnan(value) for _, value in pairs), "logit_bias must map each token id to a number", bias)
    return tuple((token_id, min(MAX_BIAS, max(-MAX_BIAS, value))) for token_id, value in pairs)


def _check_penalties(params: SamplingParams) -> None:
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(params, name)
        _require(-2 <= value <= 2, f"{name} must be between -2 and 2", value)
    _require(
        0 < params.repetition_penalty < inf,
        "repetition_penalty must be above 0, and finite",
        params.repetition_penalty,
    )
    keep = params.truncate_prompt_tokens
    _require(keep is None or keep == -1 or keep >= 1, "truncate_prompt_tokens must be -1 or at least 1", keep)
    _require(params.allowed_token_ids != (), "allowed_token_ids must have at least one token id", [])
    words = params.bad_words
    _require(
        all(word.strip() for word in words),
        "bad_words must each have a character that is not white space",
        list(words),
    )


def _require(holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise SamplingParamsError(f"{rule}, not {value!r}")


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt for the engine core. ``sampling_params.max_tokens`` must not be None."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling_params: SamplingParams

    @property
    def max_tokens(self) -> int:
        budget = self.sampling_params.max_tokens
        if budget is None:
            raise SamplingParamsError(f"request {self.request_id} has no max_tokens, which the engine core requires")
        return budget


class TokenOutput(NamedTuple):
    """One generated token.

    ``logprob`` is the natural logarithm of its probability under the raw logits. These are the logits before
    temperature and before the other parameters of the request change them, but after the mask of the request's grammar,
    if it has one. ``rank`` is the rank of the token (1 is the most likely token). ``top`` has the most likely tokens as
    pairs (token id, logprob), most likely first. If no logprobs are requested, ``logprob`` and ``rank`` are None and
    ``top`` is empty.
    """

    token_id: int
    logprob: float | None = None
    rank: int | None = None
    top: tuple[tuple[int, float], ...] = ()


class Logprob(NamedTuple):
    """The logprob of a token in an output, with its rank and text."""

    logprob: float
    rank: int | None
    decoded_token: str


PromptLogprobs = tuple[Mapping[int, Logprob] | None, ...]


@dataclass(frozen=True)
class CompletionOutput:
    """One of the ``n`` answers to a request.

    ``logprobs`` has, for each token of the answer, a mapping from token id to Logprob. ``prompt_logprobs`` has such a
    mapping for each token of the prompt; the element of the first token is None, because no token precedes it. In a
    stream of deltas, only the first output of an answer has ``prompt_logprobs``.
    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    cumulative_logprob: float | None
    logprobs: tuple[Mapping[int, Logprob], ...] | None
    finish_reason: str | None
    stop_reason: int | str | None = None
    prompt_logprobs: PromptLogprobs | None = None

    @property
    def is_empty(self) -> bool:
        """Return whether a delta adds no text and no tokens to the answer, and does not end it."""
        return not (self.text or self.token_ids) and self.finish_reason is None


@dataclass(frozen=True)
class RequestOutput:
    """A request and all its answers."""

    request_id: str
    prompt: str | None
    prompt_token_ids: tuple[int, ...]
    outputs: tuple[CompletionOutput, ...]
    finished: bool

    @property
    def prompt_logprobs(self) -> PromptLogprobs | None:
        """Return the logprobs of the prompt; None if none were requested, or if none of ``outputs`` has them."""
        return next((found for output in self.outputs if (found := output.prompt_logprobs) is not None), None)
