"""Many clients at once, some of whom go away; everybody who stays gets what is theirs."""

import asyncio
from collections.abc import Sequence

from harness.cases.behaviour.scene import SECONDS, Result, Scene, streamed, whole
from harness.drivers.door import Answer, Ask, DoorError
from harness.suites.schema import Flood
from harness.types import Verdict


async def flood(scene: Scene, label: str, wanted: Flood) -> list[Verdict]:
    """A verdict on those who stayed. Where they are greedy, each is asked again alone and must get the same text."""
    asks = [scene.ask(wanted.call) for _ in range(wanted.clients)]
    asks = [Ask(a.name, a.spec, a.n, a.model, kind="delta" if wanted.kind == "whole" else wanted.kind) for a in asks]
    try:
        results = await asyncio.wait_for(asyncio.gather(*_clients(scene, wanted, asks)), SECONDS * 2)
    except TimeoutError:
        return [Verdict(False, f"{label}: not all {wanted.clients} clients had an answer within {2 * SECONDS} s")]
    stayed = [(ask, r) for i, (ask, r) in enumerate(zip(asks, results, strict=True)) if not _leaves(wanted, i)]
    wrong = _wrong_counts(stayed, wanted)
    if wanted.call.temperature == 0 and not wrong:
        wrong = await _wrong_texts(scene, stayed)
    gone = wanted.clients - len(stayed)
    if wrong:
        return [Verdict(False, f"{label}: {wrong[0]}", tuple(wrong[1:10]))]
    return [Verdict(True, f"{label}: {len(stayed)} clients got all that is theirs, {gone} went away")]


def _clients(scene: Scene, wanted: Flood, asks: Sequence[Ask]) -> list["asyncio.Task[Result]"]:
    return [asyncio.create_task(_client(scene, wanted, i, ask)) for i, ask in enumerate(asks)]


async def _client(scene: Scene, wanted: Flood, index: int, ask: Ask) -> Result:
    leave_after = wanted.leave.after if wanted.leave and _leaves(wanted, index) else None
    if wanted.kind != "whole":
        return await streamed(scene.door, ask, leave_after)
    if leave_after is None:
        return await whole(scene.door, ask)
    try:  # who waits for the whole answer sees no pieces, and leaves after a moment
        return await asyncio.wait_for(whole(scene.door, ask), 0.05 * (1 + leave_after))
    except TimeoutError:
        return Answer(())


def _leaves(wanted: Flood, index: int) -> bool:
    return wanted.leave is not None and (index + 1) % wanted.leave.every == 0


def _wrong_counts(stayed: Sequence[tuple[Ask, Result]], wanted: Flood) -> list[str]:
    wrong = []
    for ask, result in stayed:
        if isinstance(result, DoorError):
            wrong.append(f"{ask.name} was refused: {result.message}")
        elif isinstance(result, Answer):
            counts = [choice.tokens for choice in result.choices]
            short = wanted.call.runs_to_max_tokens and any(c not in (None, wanted.call.max_tokens) for c in counts)
            if len(counts) != wanted.call.n or short:
                wrong.append(f"{ask.name} got {counts} tokens, not {wanted.call.n} times {wanted.call.max_tokens}")
    return wrong


async def _wrong_texts(scene: Scene, stayed: Sequence[tuple[Ask, Result]]) -> list[str]:
    wrong = []
    alone: dict[tuple[int, ...], Result] = {}
    for ask, result in stayed:
        key = ask.spec.prompt_token_ids
        if key not in alone:
            again = Ask(scene.name_of(), ask.spec, ask.n, ask.model, kind=ask.kind)
            alone[key] = await whole(scene.door, again)
        if _texts(result) != _texts(alone[key]):
            wrong.append(f"{ask.name} got {_texts(result)}, alone its request gets {_texts(alone[key])}")
    return wrong


def _texts(result: Result) -> list[str]:
    return [choice.text for choice in result.choices] if isinstance(result, Answer) else [str(result)]
