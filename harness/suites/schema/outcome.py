"""The format of the key ``expect`` of an action: its expected outcome."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from harness.suites.schema.base import Ids, Length, MisfitError, Model, Number, Slug, as_tuple, one_or_many
from harness.suites.schema.fields import Expected, FieldPath, Pattern

Words = Annotated[str, StringConstraints(min_length=1)]
Status = Annotated[int, Field(ge=100, le=599)]
FinishReason = Literal["stop", "length", "abort", "error"]
"""A reason why an answer ended, as in vLLM."""


class ErrorExpectation(Model):
    """The expected error of an action.

    The message of the error must contain all strings of ``message_contains``. ``param`` is the field of the request
    that the error is about. ``status``, ``type`` and ``param`` are checked only over HTTP.
    """

    message_contains: Annotated[tuple[Words, ...], BeforeValidator(one_or_many)] = ()
    status: Status | None = None
    type: Words | None = None
    param: Words | None = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> "ErrorExpectation":
        if not (self.message_contains or self.status or self.type or self.param):
            raise ValueError("give at least one of message_contains, status, type and param")
        return self


class StepBounds(Model):
    """The maximum numbers of engine steps that a request of a ``generate`` action may wait.

    ``queue`` limits the steps from joining the queue to the first step that computes the request, ``first_token`` the
    steps from joining the queue to the first token, and ``between`` the steps from one token to the next.
    """

    queue: Number | None = None
    first_token: Length | None = None
    between: Length | None = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> "StepBounds":
        if not self.model_fields_set:
            raise ValueError("give at least one of queue, first_token and between, in steps")
        return self


class Outcome(Model):
    """The expected outcome of an action.

    A value that is a list has one entry for each answer: the answers to the first request, then the answers to the
    second, and so on. With ``text: reference``, ``logprobs: reference`` and ``prompt_logprobs: reference``, texts and
    logprobs must be those of Hugging Face. ``same_as`` names an earlier action whose texts must be equal to the texts
    of this action, and ``unlike`` an earlier action whose texts must be different. With ``usage: true``, the numbers of
    tokens in the field ``usage`` must be right. ``max_steps`` is only for ``generate`` actions of in-process engines.

    These keys are only for ``http`` actions: ``status``, ``contains`` (strings in the body of the response),
    ``headers`` (a regular expression for each header) and ``fields`` (expected values in the JSON body, by path).
    """

    error: ErrorExpectation | None = None
    token_counts: Ids | None = None
    finish_reasons: Annotated[tuple[FinishReason, ...], BeforeValidator(as_tuple)] | None = None
    texts: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] | None = None
    text: Literal["reference"] | None = None
    same_as: Slug | None = None
    unlike: Slug | None = None
    logprobs: Literal["reference"] | None = None
    prompt_logprobs: Literal["reference"] | None = None
    usage: Literal[True] | None = None
    max_steps: StepBounds | None = None
    status: Status | None = None
    contains: Annotated[tuple[Words, ...], BeforeValidator(one_or_many)] = ()
    headers: dict[Words, Pattern] = Field(default_factory=dict)
    fields: dict[FieldPath, Expected] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_not_empty(self) -> "Outcome":
        if not self.model_fields_set:
            what = "give at least one of error, token_counts, finish_reasons and texts"
            raise MisfitError(what, hint="such as `{token_counts: [5]}`")
        for name in ("contains", "headers", "fields"):
            if name in self.model_fields_set and not getattr(self, name):
                raise MisfitError("must not be empty", name)
        if self.error and self.model_fields_set - {"error", "headers", "fields"}:
            raise MisfitError("with `error`, only headers and fields are allowed", "error", hint="remove the others")
        return self
