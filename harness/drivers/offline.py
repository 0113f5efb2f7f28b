"""Use an engine's offline API, as ``LLM.generate``, for cases that send requests and check the answers."""

from collections.abc import Sequence

from harness.drivers.base import Completion, RefusedError
from harness.drivers.client import Answer, Choice, ClientError, ClientRequest
from harness.drivers.optional import OfflineSession


def generate_answers(session: OfflineSession, requests: Sequence[ClientRequest]) -> list[Answer]:
    """Run requests through ``OfflineSession.generate``, and return the answers.

    Raises ClientError if the engine refuses one of the requests.
    """
    try:
        completions = session.generate([request.spec for request in requests])
    except RefusedError as refusal:
        raise ClientError(str(refusal)) from refusal
    return [Answer((_choice(completion),)) for completion in completions]


def _choice(completion: Completion) -> Choice:
    return Choice(
        completion.text,
        len(completion.token_ids),
        completion.finish_reason,
        prompt_logprobs=completion.prompt_logprobs,
        prompt_alternatives=completion.prompt_alternatives,
    )
