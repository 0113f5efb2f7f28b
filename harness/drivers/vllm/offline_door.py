"""The offline front door of vLLM as a door of behaviour cases: lists of prompts, in this process."""

from collections.abc import AsyncGenerator, Sequence

from harness.drivers.base import Session
from harness.drivers.door import Answer, Ask, DoorState, Piece, RawAnswer
from harness.drivers.offline import generate_answers

OFFLINE_ONLY = "the vllm driver has the offline door only; --driver openai-http --serve vllm has the other one"


class OfflineDoor:
    """``LLM.generate`` of one session."""

    capabilities = frozenset[str]()

    def __init__(self, session: Session) -> None:
        self._session = session

    async def generate(self, asks: Sequence[Ask]) -> list[Answer]:
        return generate_answers(self._session, asks)

    async def state(self) -> DoorState:
        seen = self._session.observe()
        return DoorState(len(seen.waiting), len(seen.running), seen.n_used_blocks, seen.n_reserved_blocks, seen.tkv)

    async def healthy(self) -> bool:
        return True

    async def complete(self, ask: Ask) -> Answer:
        raise NotImplementedError(OFFLINE_ONLY)

    def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        raise NotImplementedError(OFFLINE_ONLY)

    async def abort(self, name: str) -> None:
        raise NotImplementedError(OFFLINE_ONLY)

    async def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> RawAnswer:
        raise NotImplementedError(OFFLINE_ONLY)

    async def figures(self) -> dict[str, int]:
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
