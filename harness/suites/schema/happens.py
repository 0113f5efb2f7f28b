"""The format of ``happens`` and ``never``: events that must happen, or must not happen, when a case is run."""

from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema

from harness.suites.schema.base import MisfitError, Model, as_tuple

EventName = Literal[
    # when requests join and end
    "join",
    "full_batch",
    "end_at_prefill",
    "ends_together",
    "early_end",
    "context_filled",
    "idle_gap",
    # aborts, by the state of the aborted request
    "abort_of_waiting",
    "abort_of_prefilling",
    "abort_of_paused",
    "abort_of_decoding",
    "abort_of_finishing",
    "abort_of_ended",
    # aborts, by the kind of the step before
    "abort_before_any_step",
    "abort_after_prefill",
    "abort_after_decode",
    "abort_after_idle",
    # tkv and blocks
    "tkv_growth",
    "tkv_fall",
    "block_taken_in_decode",
    # why the first waiting request is not admitted
    "wait_for_batch",
    "wait_for_context",
    "wait_for_blocks",
    "wait_for_budget",
    "wait_for_freed_blocks",
    "wait_for_batch_tkv",
    "wait_for_turn",
    "wait_for_prefill",
    "wait_for_paused",
    "remembered_refusal",
    # how close to a limit: exactly at the limit, or one above it
    "fits_context_exactly",
    "fits_blocks_exactly",
    "fits_batch_tkv_exactly",
    "context_short_by_one",
    "blocks_short_by_one",
    "batch_tkv_over_by_one",
    # chunks and pauses
    "several_chunks",
    "chunk_between_decodes",
    "pause",
    "resume",
    # steps of a token budget
    "mixed_step",
    "preemption",
    # prefixes
    "hit",
    "hit_unused",
    "hit_on_generated_blocks",
    "hit_on_held_blocks",
    "hit_on_free_blocks",
    "hit_with_copies",
    "prefix_lost",
    "cached_block_taken",
    "found_block_taken",
]
EVENT_NAMES: tuple[str, ...] = get_args(EventName)


class Happening(Model):
    """An event of a run, such as ``pause``. ``request`` is the request to which it happens, None for any request.

    Requests are given by their position in the case.
    """

    event: EventName
    request: Annotated[int, Field(ge=0)] | None = None

    def covers(self, other: "Happening") -> bool:
        """Return whether this event happens whenever the event ``other`` does."""
        return self.event == other.event and self.request in (None, other.request)

    def __str__(self) -> str:
        return self.event if self.request is None else f"{self.event} of request {self.request}"


def _in_full(value: Any) -> Any:
    if isinstance(value, str):
        return {"event": _known(value)}
    if isinstance(value, dict) and len(value) == 1:
        [(event, request)] = value.items()
        if type(request) is int and request < 0:
            raise MisfitError(f"the number of a request is at least 0, not {request}", str(event))
        if type(request) is int:
            return {"event": _known(event), "request": request}
    what = "an event must be a name, or a mapping of a name to a request"
    raise MisfitError(what, hint="such as `pause` or `{abort_of_paused: 0}`")


def _known(name: Any) -> Any:
    if name in EVENT_NAMES:
        return name
    near = get_close_matches(str(name), EVENT_NAMES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "docs/writing-cases.md lists them"
    raise MisfitError(f"there is no event named {str(name)[:60]!r}", hint=hint)


_JSON_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": list(EVENT_NAMES)},
        {
            "type": "object",
            "propertyNames": {"enum": list(EVENT_NAMES)},
            "additionalProperties": {"type": "integer", "minimum": 0},
            "minProperties": 1,
            "maxProperties": 1,
        },
    ]
}
_Short = Annotated[Happening, BeforeValidator(_in_full), WithJsonSchema(_JSON_SCHEMA)]
Happenings = Annotated[tuple[_Short, ...], BeforeValidator(as_tuple)]
"""A list of events, each ``name`` or, if it must happen to a certain request, ``{name: request}``.

docs/writing-cases.md describes the events.
"""
