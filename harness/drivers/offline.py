"""A session's offline API as a client of behaviour cases: a list of prompts is answered as a whole, or refused."""

from collections.abc import Sequence

from harness.drivers.base import RefusedError
from harness.drivers.client import Answer, Choice, ClientError, ClientRequest
from harness.drivers.optional import OfflineSession


def generate_answers(session: OfflineSession, requests: Sequence[ClientRequest]) -> list[Answer]:
    """Run ``OfflineSession.generate`` for the requests of a client. Raises ClientError if the session refuses one."""
    try:
        completions = session.generate([request.spec for request in requests])
    except RefusedError as refusal:
        raise ClientError(str(refusal)) from refusal
    return [Answer((Choice(c.text, len(c.token_ids), c.finish_reason),)) for c in completions]
