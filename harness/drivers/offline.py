"""A session's offline front door, as the doors of behaviour cases answer: lists of prompts, all of them or an error."""

from collections.abc import Sequence

from harness.drivers.base import RefusedError, Session
from harness.drivers.door import Answer, Ask, Choice, DoorError


def generate_answers(session: Session, asks: Sequence[Ask]) -> list[Answer]:
    """``Session.generate`` of what clients ask. Raises DoorError where it refuses one."""
    try:
        completions = session.generate([ask.spec for ask in asks])
    except RefusedError as refusal:
        raise DoorError(str(refusal)) from refusal
    return [Answer((Choice(c.text, len(c.token_ids), c.finish_reason),)) for c in completions]
