"""The format of requests, of limits, and of the options of schedulers."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, JsonValue, NonNegativeFloat, StringConstraints, model_validator

from harness.suites.schema.base import (
    LONGEST,
    Ids,
    Length,
    MisfitError,
    Model,
    Number,
    Size,
    StepNumber,
    one_or_many,
)
from harness.suites.schema.prompts import Prompt
from harness.suites.schema.structured import StructuredOutputs
from harness.types import BLOCK_SIZE, TokenBudgetRules

MAX_LOGPROBS = 20
SMALLEST_BLOCK = 32
"""The block size of the token-budget scheduler is a multiple of this number of tokens."""
_DESCRIBED = (  # Fields that the description of a request lists if they do not have their default.
    "ignore_eos",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "min_tokens",
    "stop",
    "stop_token_ids",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
    "structured_outputs",
    "logprobs",
    "prompt_logprobs",
    "truncate_prompt_tokens",
    "golden",
    "unchecked",
)


def _token_id(key: object) -> object:
    # "042" is refused, as over HTTP, because it would be a second key for the token 42.
    if isinstance(key, str) and re.fullmatch("0|[1-9][0-9]*", key):
        return int(key)
    raise ValueError(f'a key must be a token id in quotes, such as "42", not {key!r}')


TokenIdKey = Annotated[int, BeforeValidator(_token_id, json_schema_input_type=str)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TruncatePromptTokens = Literal[-1] | Size
"""A number of prompt tokens, or -1 for as many as fit the context."""


class Request(Model):
    """One request. By default it is greedy and ignores EOS, so it generates ``max_tokens`` tokens.

    The request is added after ``join_step`` engine steps, and aborted after ``abort_step`` engine steps (None: never).
    ``logprobs`` is the number of top tokens that the engine returns at each position; their logprobs are also compared.
    ``simulated_tokens`` are the tokens that the model generates for this request. A driver that runs no model returns
    these tokens, and needs them if a generated token can end the request early. An engine that runs the model must
    generate the same tokens.

    The following four fields are only for behaviour cases. ``prompt_logprobs`` is the number of top tokens at each
    position of the prompt. If ``golden`` is true, the reference's tokens replace the tokens that the engine samples.
    ``truncate_prompt_tokens`` is the number of tokens at the end of the prompt that the engine keeps, -1 for as many as
    fit the context. ``unchecked`` are sampling parameters, by vLLM's names, with values that the suite does not check
    because the engine must refuse them. They replace the request's other parameters of the same names.
    """

    prompt: Prompt
    max_tokens: Length
    join_step: StepNumber = 0
    abort_step: StepNumber | None = None
    ignore_eos: bool = True
    temperature: NonNegativeFloat = 0.0
    top_k: Number = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=LONGEST)] = 0
    stop: Annotated[tuple[Annotated[str, StringConstraints(min_length=1)], ...], BeforeValidator(one_or_many)] = ()
    stop_token_ids: Ids = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    logit_bias: dict[TokenIdKey, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
    allowed_token_ids: Annotated[Ids, Field(min_length=1)] | None = None
    bad_words: Annotated[tuple[Annotated[str, StringConstraints(min_length=1)], ...], BeforeValidator(one_or_many)] = ()
    structured_outputs: StructuredOutputs | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    prompt_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    truncate_prompt_tokens: TruncatePromptTokens | None = None
    golden: bool = False
    unchecked: dict[str, JsonValue] = Field(default_factory=dict)
    simulated_tokens: Ids = ()

    @model_validator(mode="after")
    def _in_order(self) -> "Request":
        if self.abort_step is not None and self.abort_step < self.join_step:
            what = f"abort_step {self.abort_step} is before join_step {self.join_step}"
            raise MisfitError(what, "abort_step", hint="both count engine steps from the start of the case")
        if self.min_tokens > self.max_tokens:
            what = f"min_tokens {self.min_tokens} is more than max_tokens {self.max_tokens}"
            raise MisfitError(what, "min_tokens", hint=f"use at most {self.max_tokens}, or raise max_tokens")
        return self

    @property
    def changes_logits(self) -> str | None:
        """Return the name of the first parameter that changes logits, such as a penalty, None if there is none."""
        names = ("presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "allowed_token_ids")
        defaults = type(self).model_fields
        changed = (
            name
            for name in (*names, "bad_words", "structured_outputs")
            if getattr(self, name) != defaults[name].get_default(call_default_factory=True)
        )
        return next(changed, None)

    @property
    def can_get_a_token(self) -> bool:
        """Return whether a step runs before the request is aborted, so that it can get a token."""
        return self.abort_step is None or self.abort_step > self.join_step

    @property
    def is_repeatable(self) -> bool:
        """Return whether the request gets the same tokens in every run, because it is greedy or has a seed."""
        return self.temperature == 0 or self.seed is not None

    @property
    def can_be_simulated(self) -> bool:
        """Return whether a driver that runs no model can run the request.

        It can if no generated token can end the request early, or if ``simulated_tokens`` are given.
        """
        return bool(self.simulated_tokens) or (self.ignore_eos and not self.stop and not self.stop_token_ids)

    @property
    def runs_to_max_tokens(self) -> bool:
        """Return whether the request always generates ``max_tokens`` tokens, because no token can end it early."""
        known = self.prompt.length is not None
        return known and self.ignore_eos and not self.stop and not self.stop_token_ids


class Limits(Model):
    """Limits for the scheduler. A limit that is None has the value with which the engine was built."""

    max_model_len: Size | None = None
    max_num_seqs: Size | None = None
    available_blocks: Size | None = None
    max_batch_tkv_limit: Size | None = None


class Options(Model):
    """The base class of ``Chunking`` and ``TokenBudget``: options of a scheduler that a case can set."""

    @property
    def tokens_in_a_block(self) -> int:
        """Return the number of tokens in a block of the KV cache."""
        return BLOCK_SIZE

    def _check_multiple(self, name: str, unit: int, hint: str) -> None:
        """Raise MisfitError if the value of the option ``name`` is not a multiple of ``unit``."""
        if (value := getattr(self, name)) % unit:
            raise MisfitError(f"{name} {value} is not a multiple of {unit}", name, hint=hint)

    def check_requests(self, requests: Sequence[tuple[int, int]]) -> None:
        """Raise MisfitError if a request can't run with these options. A request is (prompt length, max_tokens)."""


class Chunking(Options):
    """Options of the chunked scheduler.

    ``chunk_size`` is in tokens, and must be a multiple of 64. With ``interleave``, a decode runs between two chunks if
    other requests are decoding. With ``long_output_priority``, the requests with the fewest generated tokens are paused
    first.
    """

    chunk_size: Size = 128
    enable_prefix_caching: bool = True
    interleave: bool = True
    long_output_priority: bool = False

    @model_validator(mode="after")
    def _whole_blocks(self) -> "Chunking":
        self._check_multiple("chunk_size", BLOCK_SIZE, "use 64, 128, …")
        return self


class TokenBudget(Options):
    """Options of the token-budget scheduler, named as in vLLM.

    ``max_num_batched_tokens`` is the budget: the maximum number of tokens computed in one step. Without
    ``enable_chunked_prefill`` a prompt is computed in one step. ``long_prefill_token_threshold`` is the maximum number
    of tokens of one request in one step, 0 for no threshold. ``rules`` selects the rules of vLLM 0.27.1 or 0.32.0.
    ``block_size`` is the number of tokens in a block of the KV cache, a multiple of 32. The backend sendnn needs 64.
    """

    max_num_batched_tokens: Size = 512
    enable_chunked_prefill: bool = True
    enable_prefix_caching: bool = True
    long_prefill_token_threshold: Number = 0
    rules: TokenBudgetRules = "0.27"
    block_size: Size = BLOCK_SIZE

    @model_validator(mode="after")
    def _possible_block_size(self) -> "TokenBudget":
        self._check_multiple("block_size", SMALLEST_BLOCK, "use 32, 64, 96, …")
        return self

    @property
    def tokens_in_a_block(self) -> int:
        return self.block_size

    def check_requests(self, requests: Sequence[tuple[int, int]]) -> None:
        """Raise MisfitError if a request can need more than ``max_num_batched_tokens`` tokens in one step.

        Without ``enable_chunked_prefill``, all tokens of a request are computed in one step. After a preemption, these
        are the tokens of its prompt and all tokens that it has generated so far.
        """
        for index, (length, max_tokens) in enumerate(() if self.enable_chunked_prefill else requests):
            longest = length + max_tokens - 1
            if longest > self.max_num_batched_tokens:
                what = (
                    f"without chunked prefill, request {index} can need {longest} tokens in one step, but "
                    f"max_num_batched_tokens is {self.max_num_batched_tokens}"
                )
                raise MisfitError(what, "token_budget", "max_num_batched_tokens", hint=f"use {longest} or more")


def describe_request(index: int, request: Request) -> str:
    """Return a description of a request for reports, generated from its fields."""
    words = [f"request {index}: {request.prompt.described()}, max_tokens {request.max_tokens}"]
    if request.join_step:
        words.append(f"joins at step {request.join_step}")
    if request.abort_step is not None:
        words.append(f"is aborted at step {request.abort_step}")
    for name in _DESCRIBED:
        value = getattr(request, name)
        if value != Request.model_fields[name].get_default(call_default_factory=True):
            words.append(f"{name} {value}")
    return ", ".join(words)
