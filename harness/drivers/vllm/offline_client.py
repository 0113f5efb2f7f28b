"""The client for vLLM in this process, for cases that send requests and check the answers.

It can only use the offline API (``generate``).
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from harness.drivers.client import Answer, ClientRequest, RawAnswer, ServingState, StreamChunk
from harness.drivers.offline import generate_answers
from harness.drivers.optional import OfflineSession

OFFLINE_ONLY = "the driver vllm has only the offline API; for others use --cb-driver openai-http --cb-serve vllm"


class OfflineClient:
    """A client that passes lists of requests to ``LLM.generate`` of a session.

    The methods for other APIs raise NotImplementedError.
    """

    capabilities = frozenset[str]()

    def __init__(self, session: OfflineSession) -> None:
        self._session = session

    async def generate(self, requests: Sequence[ClientRequest]) -> list[Answer]:
        return generate_answers(self._session, requests)

    async def state(self) -> ServingState:
        seen = self._session.observe()
        return ServingState(len(seen.waiting), len(seen.running), seen.n_used_blocks, seen.n_reserved_blocks, seen.tkv)

    async def healthy(self) -> bool:
        return True

    async def complete(self, request: ClientRequest) -> Answer:
        raise NotImplementedError(OFFLINE_ONLY)

    def stream(self, request: ClientRequest) -> AsyncGenerator[StreamChunk, None]:
        raise NotImplementedError(OFFLINE_ONLY)

    async def abort(self, name: str) -> None:
        raise NotImplementedError(OFFLINE_ONLY)

    async def call(self, method: str, path: str, content: Any) -> RawAnswer:
        raise NotImplementedError(OFFLINE_ONLY)

    async def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> RawAnswer:
        raise NotImplementedError(OFFLINE_ONLY)

    async def metrics(self) -> dict[str, int]:
        raise NotImplementedError(OFFLINE_ONLY)

    async def restart(self, how: str) -> None:
        raise NotImplementedError(OFFLINE_ONLY)

    @property
    def url(self) -> str:
        raise NotImplementedError(OFFLINE_ONLY)

    async def leave(self) -> None:
        pass

    def close(self) -> None:
        pass
