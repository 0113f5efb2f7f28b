"""Use the offline API of a session for the ``generate`` actions of behaviour cases."""

from collections.abc import Sequence

from harness.drivers.base import RefusedError
from harness.drivers.client import Answer, Choice, ClientError, ClientRequest
from harness.drivers.optional import OfflineSession


def generate_answers(session: OfflineSession, requests: Sequence[ClientRequest]) -> list[Answer]:
    """Run requests through ``OfflineSession.generate``, and return the answers. Raises ClientError."""
    try:
        completions = session.generate([request.spec for request in requests])
    except RefusedError as refusal:
        raise ClientError(str(refusal)) from refusal
    return [Answer((Choice(c.text, len(c.token_ids), c.finish_reason),)) for c in completions]
