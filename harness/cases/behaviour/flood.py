"""Perform the action ``flood``: many clients send requests concurrently, and some of them disconnect.

The clients that stay connected must get complete answers.
"""

import asyncio
from collections.abc import Sequence

from harness.cases.behaviour.context import SECONDS, CaseContext, Result, streamed, whole
from harness.drivers.client import Answer, ClientError, ClientRequest
from harness.suites.schema import Flood
from harness.types import Verdict


async def flood(context: CaseContext, label: str, wanted: Flood) -> list[Verdict]:
    """Send the requests of all clients of a ``flood`` action concurrently, and check the answers.

    Some clients disconnect early. The other clients must get complete answers. If the requests are greedy, they are
    then sent again one at a time, and must get the same texts as before. ``label`` names the action in the verdict.
    """
    requests = [context.request(wanted.call) for _ in range(wanted.clients)]
    requests = [
        ClientRequest(a.name, a.spec, a.n, a.model, kind="delta" if wanted.kind == "whole" else wanted.kind)
        for a in requests
    ]
    try:
        results = await asyncio.wait_for(asyncio.gather(*_clients(context, wanted, requests)), SECONDS * 2)
    except TimeoutError:
        return [Verdict(False, f"{label}: not all {wanted.clients} clients got an answer within {2 * SECONDS} s")]
    stayed = [
        (request, r) for i, (request, r) in enumerate(zip(requests, results, strict=True)) if not _leaves(wanted, i)
    ]
    wrong = _wrong_counts(stayed, wanted)
    if wanted.call.temperature == 0 and not wrong:
        wrong = await _wrong_texts(context, stayed)
    gone = wanted.clients - len(stayed)
    if wrong:
        return [Verdict(False, f"{label}: {wrong[0]}", tuple(wrong[1:10]))]
    return [Verdict(True, f"{label}: {len(stayed)} clients got complete answers, {gone} disconnected")]


def _clients(context: CaseContext, wanted: Flood, requests: Sequence[ClientRequest]) -> list["asyncio.Task[Result]"]:
    return [asyncio.create_task(_client(context, wanted, i, request)) for i, request in enumerate(requests)]


async def _client(context: CaseContext, wanted: Flood, index: int, request: ClientRequest) -> Result:
    leave_after = wanted.leave.after if wanted.leave and _leaves(wanted, index) else None
    if wanted.kind != "whole":
        return await streamed(context.client, request, leave_after)
    if leave_after is None:
        return await whole(context.client, request)
    try:  # Without streaming there are no chunks to count, so the client disconnects after a delay.
        return await asyncio.wait_for(whole(context.client, request), 0.05 * (1 + leave_after))
    except TimeoutError:
        return Answer(())


def _leaves(wanted: Flood, index: int) -> bool:
    return wanted.leave is not None and (index + 1) % wanted.leave.every == 0


def _wrong_counts(stayed: Sequence[tuple[ClientRequest, Result]], wanted: Flood) -> list[str]:
    wrong = []
    for request, result in stayed:
        if isinstance(result, ClientError):
            wrong.append(f"{request.name} was refused: {result.message}")
        elif isinstance(result, Answer):
            counts = [choice.tokens for choice in result.choices]
            short = wanted.call.runs_to_max_tokens and any(c not in (None, wanted.call.max_tokens) for c in counts)
            if len(counts) != wanted.call.n or short:
                expected = [wanted.call.max_tokens] * wanted.call.n
                wrong.append(f"{request.name} got answers of {counts} tokens, expected {expected}")
    return wrong


async def _wrong_texts(context: CaseContext, stayed: Sequence[tuple[ClientRequest, Result]]) -> list[str]:
    wrong = []
    alone: dict[tuple[int, ...], Result] = {}
    for request, result in stayed:
        key = request.spec.prompt_token_ids
        if key not in alone:
            again = ClientRequest(context.name_of(), request.spec, request.n, request.model, kind=request.kind)
            alone[key] = await whole(context.client, again)
        if _texts(result) != _texts(alone[key]):
            wrong.append(f"{request.name} got {_texts(result)}, but the same request alone got {_texts(alone[key])}")
    return wrong


def _texts(result: Result) -> list[str]:
    return [choice.text for choice in result.choices] if isinstance(result, Answer) else [str(result)]
