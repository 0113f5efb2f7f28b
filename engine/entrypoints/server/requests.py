"""The bodies of requests: OpenAI's fields, and those of vLLM that the engine supports.

Types are strict: a string is not accepted for a number. A field of OpenAI or vLLM that this engine does not support is
refused, unless it has a value that has no effect (WITHOUT_EFFECT). An unknown field is always refused. So no field is
silently ignored. If two fields contradict each other, the error names the field to change.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from engine.entrypoints.server.errors import bad_request
from engine.entrypoints.server.fields import Body, Text
from engine.entrypoints.server.golden import ExtraArguments
from engine.entrypoints.server.structured import ResponseFormat, StructuredOutputs
from engine.request import MAX_LOGPROBS
from engine.structured_outputs import StructuredOutputsParams

MAX_STOPS = 64
LONGEST_STOP = 1024
MAX_ANSWERS = 128

WITHOUT_EFFECT: Mapping[str, tuple[object, ...]] = {
    "length_penalty": (None, 1, 1.0),
    "suffix": (None, ""),
    "best_of": (None, 1),
    "use_beam_search": (None, False),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "parallel_tool_calls": (None, True, False),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None,),
    "store": (None, False),
    "service_tier": (None, "auto", "default"),
}
"""Fields that are not supported, with the values that are accepted because they have no effect."""


def _same(given: object, neutral: object) -> bool:
    """Return whether two JSON values are equal and have the same type: ``true`` and 1 are equal only in Python."""
    return type(given) is type(neutral) and given == neutral


def check_prompt(value: object) -> object:
    """Return ``value`` if it is one prompt (a string or a list of token ids) or a list of prompts of the same kind.

    Otherwise raise ValueError with a sentence.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        if not value:
            raise ValueError("the prompt is empty")
        if all(isinstance(item, str) for item in value) or _are_tokens(value):
            return value
        if all(isinstance(item, list) and _are_tokens(item) for item in value):
            return value
    raise ValueError("must be a string, a list of strings, a list of token ids, or a list of lists of token ids")


def _are_tokens(items: list[Any]) -> bool:
    return all(type(item) is int for item in items)


def check_stop(value: object) -> object:
    """Return ``value`` if it is None, a string or a list of strings; otherwise raise ValueError with a sentence.

    The number of stop strings and their lengths are limited, because the engine searches for them after every token.
    """
    stops = [value] if isinstance(value, str) else value
    if value is None:
        return value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise ValueError("must be a string or a list of strings")
    if len(stops) > MAX_STOPS or any(len(stop) > LONGEST_STOP for stop in stops):
        raise ValueError(f"must have at most {MAX_STOPS} stop strings of at most {LONGEST_STOP} characters")
    return value


def check_bias(value: object) -> object:
    """Return ``value``, the field ``logit_bias``, with its keys converted to integers: in JSON, keys are strings.

    Raises ValueError with a sentence if ``value`` is not an object whose keys are token ids.
    """
    if value is None:
        return value
    if not isinstance(value, dict) or not all(map(_is_token_id, value)):
        raise ValueError('must be an object that maps token ids to numbers, such as {"42": -100}')
    return {int(key): bias for key, bias in value.items()}


def _is_token_id(key: object) -> bool:
    """Return whether ``key`` is a token id without leading zeros. Then two different keys are different token ids."""
    text = str(key)
    return text.isascii() and text.isdecimal() and len(text) <= 18 and text == str(int(text))


def check_content(value: object) -> object:
    """Return ``value`` if it is a string or a list of text parts; otherwise raise ValueError with a sentence."""
    if isinstance(value, str) or (isinstance(value, list) and all(map(_is_text_part, value))):
        return value
    raise ValueError('must be a string, or a list of parts {"type": "text", "text": "..."}')


def _is_text_part(part: object) -> bool:
    return (
        isinstance(part, dict)
        and part.keys() == {"type", "text"}
        and part["type"] == "text"
        and isinstance(part["text"], str)
    )


Prompt = Annotated[str | list[Text] | list[int] | list[list[int]], BeforeValidator(check_prompt)]
Stop = Annotated[str | list[Text] | None, BeforeValidator(check_stop)]
LogitBias = Annotated[dict[int, Annotated[float, Field(allow_inf_nan=False)]], BeforeValidator(check_bias)]
Float = Annotated[float, Field(allow_inf_nan=False)]


class StreamOptions(Body):
    include_usage: bool | None = None


class CommonRequest(Body):
    """The fields that completions and chat completions have in common."""

    model: Text | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    temperature: Float | None = None
    top_p: Float | None = None
    top_k: int | None = None
    min_p: Float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    stop: Stop = None
    stop_token_ids: Annotated[list[int], Field(max_length=MAX_STOPS)] | None = None
    ignore_eos: bool | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    presence_penalty: Float | None = None
    frequency_penalty: Float | None = None
    repetition_penalty: Float | None = None
    logit_bias: LogitBias | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: Annotated[list[Text], Field(max_length=MAX_STOPS)] | None = None
    prompt_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    truncate_prompt_tokens: int | None = None
    structured_outputs: StructuredOutputs | None = None
    response_format: ResponseFormat | None = None
    vllm_xargs: ExtraArguments | None = None
    return_token_ids: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Text | None = None
    metadata: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_neutral_fields(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        for name in WITHOUT_EFFECT.keys() & body.keys():
            if not any(_same(body[name], neutral) for neutral in WITHOUT_EFFECT[name]):
                raise bad_request(f"{name} is not supported: leave it out", name)
        return {name: value for name, value in body.items() if name not in WITHOUT_EFFECT}

    @model_validator(mode="after")
    def _stream_options_go_with_stream(self) -> "CommonRequest":
        if self.stream_options is not None and not self.stream:
            raise bad_request("stream_options is only allowed if stream is true", "stream_options")
        return self

    @model_validator(mode="after")
    def _no_stream_of_prompt_logprobs(self) -> "CommonRequest":
        if self.prompt_logprobs is not None and self.stream:
            raise bad_request("prompt_logprobs are not available if stream is true", "prompt_logprobs")
        return self

    @model_validator(mode="after")
    def _one_structure(self) -> "CommonRequest":
        if self.structured_outputs is not None and self.structure_field == "response_format":
            raise bad_request(
                "structured_outputs and response_format exclude each other: leave one out", "response_format"
            )
        return self

    @property
    def structure(self) -> StructuredOutputsParams | None:
        """Return the format that the answer must have; None if any text is allowed.

        Raises StructuredOutputsError if ``structured_outputs`` does not have exactly one format.
        """
        if self.response_format is not None and self.structured_outputs is None:
            return self.response_format.params()
        return None if self.structured_outputs is None else self.structured_outputs.params()

    @property
    def structure_field(self) -> str:
        """Return the name of the field that prescribes the format of the answer, for error messages."""
        free = self.response_format is None or self.response_format.type == "text"
        return "structured_outputs" if free else "response_format"

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionRequest(CommonRequest):
    """The body of ``POST /v1/completions``."""

    prompt: Prompt
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @property
    def echo_alone(self) -> bool:
        """Return whether the response repeats the prompt and has no generated text.

        The response has the logprobs of the prompt if they are requested.
        """
        return bool(self.echo) and self.max_tokens == 0


class TextPart(Body):
    """One part of a message's content."""

    type: Literal["text"]
    text: Text


class Message(Body):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | list[TextPart], BeforeValidator(check_content)]
    name: Text | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatRequest(CommonRequest):
    """The body of ``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise bad_request("top_logprobs is only allowed if logprobs is true", "top_logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise bad_request("max_tokens and max_completion_tokens differ: give one of them", "max_tokens")
        return self
