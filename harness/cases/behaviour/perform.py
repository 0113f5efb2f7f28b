"""Perform the actions of a behaviour case with a client, in order, and check the outcome of each."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.cases.behaviour.context import (
    SECONDS,
    Background,
    CaseContext,
    MakeChat,
    MakeRequest,
    Result,
    streamed,
    whole,
)
from harness.cases.behaviour.flood import flood
from harness.cases.behaviour.named import run_check
from harness.cases.behaviour.outcome import ExpectedAnswer, check_outcome
from harness.cases.behaviour.waiting import POLL_SECONDS, eventually, wait_for
from harness.drivers.client import Client, ClientError, ClientRequest, RawAnswer, ServingState, StreamChunk
from harness.suites.schema import Action, BehaviourCase, ServerMetrics
from harness.types import Verdict

IDLE = "the engine is idle at the end"
RULE = 'docs/scheduling-rules.md "Entry points"; docs/behaviour.md describes the actions'

ExpectedAnswers = Callable[[str, Sequence[ClientRequest]], list[ExpectedAnswer]]
"""Type of a function that returns the answers that Hugging Face generates to the requests of an action, in their order.

Its first argument names the action in messages.
"""

AfterGenerate = Callable[[str, Action, Sequence[ClientRequest]], list[Verdict]]
"""Type of a function that checks the engine's steps after a ``generate`` action, and returns the verdicts."""


@dataclass
class _Play:
    """The state of one case while its actions are performed.

    ``requests`` has the requests of each action, by the action's position. ``counted`` has the values of the server's
    metrics before the first action.
    """

    case: BehaviourCase
    context: CaseContext
    expected_answers: ExpectedAnswers
    after_generate: AfterGenerate
    verdicts: list[Verdict]
    requests: dict[int, tuple[ClientRequest, ...]]
    counted: dict[str, int]


async def perform(
    case: BehaviourCase,
    client: Client,
    make_request: MakeRequest,
    make_chat: MakeChat,
    expected_answers: ExpectedAnswers,
    after_generate: AfterGenerate,
) -> list[Verdict]:
    """Perform the actions of a case in order, and return their verdicts.

    After the last action, wait for the actions that still run in the background. The last verdict is about whether the
    engine is idle afterwards. No wait takes longer than two minutes.
    ``make_request`` converts a request from the suite file to a request for the client. ``make_chat`` renders the
    prompt of a conversation. ``expected_answers`` returns Hugging Face's answers to requests. ``after_generate`` checks
    the engine's steps after a ``generate`` action.
    """
    names = iter(range(1_000_000))
    context = CaseContext(client, make_request, make_chat, lambda: f"extra-{next(names)}")
    play = _Play(case, context, expected_answers, after_generate, [], {}, {})
    try:
        if any(action.metrics is not None for action in case.actions):
            play.counted.update(await client.metrics())
        for number, action in enumerate(case.actions):
            play.verdicts += await _perform_action(play, number, action)
        for name in list(context.background):
            play.verdicts += await _ended(play, name)
        play.verdicts.append(await _left_idle(client))
    finally:
        for background in context.background.values():
            background.task.cancel()
        await asyncio.gather(*(b.task for b in context.background.values()), return_exceptions=True)
        await client.leave()
    return [v if v.passed or v.rule else replace(v, rule=RULE) for v in play.verdicts]


def label_of(number: int, action: Action) -> str:
    """Return the name of a case's action number ``number``, counted from 0, for messages."""
    return f"action {number} ({action.kind})"


async def _perform_action(play: _Play, number: int, action: Action) -> list[Verdict]:
    context, label = play.context, label_of(number, action)
    if action.wait is not None:
        verdicts = _verdict(label, await wait_for(context, action.wait), "the condition holds")
        return [
            *verdicts,
            *(await _ended(play, action.wait.end_of) if action.wait.end_of and verdicts[0].passed else []),
        ]
    if action.metrics is not None:
        return _verdict(label, await _miscounted(play, action.metrics), "the metrics are as expected")
    if action.flood is not None:
        return await flood(context, label, action.flood)
    if action.check is not None:
        return await run_check(context, label, action.check)
    if action.restart is not None:
        try:
            await context.client.restart(action.restart)
        except ClientError as error:
            return _verdict(label, str(error), "")
        return _verdict(
            label,
            None if await eventually(context.client.healthy) else "the server does not answer after the restart",
            "the server answers after the restart",
        )
    if action.abort is not None:
        await context.client.abort(context.background[action.abort].name)
        return []
    if action.disconnect is not None:
        return await _disconnect(context, label, action.disconnect)
    return await _answering(play, number, label, action)


def _verdict(label: str, trouble: str | None, well: str) -> list[Verdict]:
    return [Verdict(trouble is None, f"{label}: {trouble or well}")]


async def _miscounted(play: _Play, wanted: ServerMetrics) -> str | None:
    """Wait until the server's metrics have grown by the expected values since the start of the case.

    Return None if the metrics have grown by these values. If they have not after a timeout, return an error message
    with the metrics that differ. A wait is necessary because a server may update its metrics one step after it sends
    an answer.
    """
    last: list[str] = []

    async def as_expected() -> bool:
        now = await play.context.client.metrics()
        more = {name: value - play.counted.get(name, 0) for name, value in now.items()}
        last[:] = [
            f"{name} {more.get(name, 'not reported')}, expected {value}"
            for name, value in wanted.model_dump(exclude_none=True).items()
            if more.get(name) != value
        ]
        return not last

    return None if await eventually(as_expected) else "; ".join(last)


async def _disconnect(context: CaseContext, label: str, name: str) -> list[Verdict]:
    """Disconnect the client of the background action ``name``, and return a list with one verdict.

    The verdict is a failure if the request of the background action had already finished. ``label`` names the
    ``disconnect`` action in the verdict.
    """
    background = context.background.pop(name)
    ended = background.task.done()
    background.task.cancel()
    [result] = await asyncio.gather(background.task, return_exceptions=True)
    why = f": {result}" if isinstance(result, ClientError) else ""
    trouble = f"the action {name} had ended before the client disconnected{why}" if ended else None
    return _verdict(label, trouble, f"the client of {name} disconnected after {len(background.chunks)} chunks")


async def _answering(play: _Play, number: int, label: str, action: Action) -> list[Verdict]:
    context = play.context
    if action.generate is not None:
        return await _generate(play, number, label, action)
    chunks: list[StreamChunk] = []
    received = asyncio.Condition()
    requests, doing = _doing(context, action, chunks, received)
    play.requests[number] = requests
    task = asyncio.create_task(_bounded(doing))
    if action.name is not None and action.http is None:
        n = requests[0].n if requests else 1
        context.background[action.name] = Background(
            requests[0].name if requests else "", n, task, chunks, received, number
        )
        await asyncio.sleep(POLL_SECONDS)  # The request must arrive at the engine before the next action.
        return []
    result = await task
    return [_checked(play, number, label, action, [result])]


async def _bounded(doing: Coroutine[Any, Any, Result]) -> Result:
    try:
        return await asyncio.wait_for(doing, 2 * SECONDS)
    except TimeoutError:
        return ClientError(f"did not end within {2 * SECONDS} s")


def _doing(
    context: CaseContext, action: Action, chunks: list[StreamChunk], received: asyncio.Condition
) -> tuple[tuple[ClientRequest, ...], Coroutine[Any, Any, Result]]:
    client = context.client
    if action.complete is not None:
        request = context.request(action.complete)
        return (request,), whole(client, request)
    if action.stream is not None:
        request = context.request(action.stream)
        return (request,), streamed(client, request, action.stream.leave_after, chunks, received)
    if action.chat is not None:
        request = context.chat_request(action.chat)
        return (request,), streamed(client, request, None, chunks, received) if action.chat.stream else whole(
            client, request
        )
    assert action.http is not None
    raw = action.http
    if raw.by_openai:
        return (), _answered(client.call(raw.method, raw.path, raw.content))
    body = (json.dumps(raw.content) if raw.content is not None else (raw.body or "") * raw.repeat_body).encode()
    headers = {"Content-Type": "application/json", **raw.headers}
    return (), _answered(client.send(raw.method, raw.path, body, headers))


async def _answered(sent: Awaitable[RawAnswer]) -> Result:
    try:
        return await sent
    except ClientError as error:
        return error


async def _generate(play: _Play, number: int, label: str, action: Action) -> list[Verdict]:
    assert action.generate is not None
    requests = tuple(play.context.make_request(request) for request in action.generate)
    play.requests[number] = requests
    try:
        results: list[Result] = list(await play.context.client.generate(requests))
    except ClientError as error:
        results = [error]
    verdict = _checked(play, number, label, action, results)
    return [verdict, *(play.after_generate(label, action, requests) if not isinstance(results[0], ClientError) else [])]


def _checked(play: _Play, number: int, label: str, action: Action, results: list[Result]) -> Verdict:
    requests = play.requests.get(number, ())
    if action.name is not None:
        play.context.results[action.name] = results
    if action.expect is None:
        fine = not isinstance(results[0], ClientError)
        return Verdict(fine, f"{label}: {'the request finished' if fine else results[0]}")
    expect = action.expect
    answered = not isinstance(results[0], ClientError)
    wanted = play.expected_answers(label, requests) if action.compared and answered else []
    for other in (expect.same_as, expect.unlike):
        if other is not None and other not in play.context.results:
            fix = f"add the action `wait: {{end_of: {other}}}` before this one"
            return Verdict(False, f"{label}: the action {other} has not ended yet; {fix}")
    lengths = [len(request.spec.truncated().prompt_token_ids) for request in requests]
    return check_outcome(
        label, results, expect, expected_answers=wanted, others=play.context.results, prompt_tokens=lengths
    )


async def _ended(play: _Play, name: str) -> list[Verdict]:
    background = play.context.background.pop(name)
    action = play.case.actions[background.number]
    result = await background.task
    return [_checked(play, background.number, f"action {background.number} ({action.kind} {name})", action, [result])]


async def _left_idle(client: Client) -> Verdict:
    """Wait until the engine is idle, and return a passed verdict. If a timeout ends the wait, return a failed verdict.

    A wait is necessary because the engine frees the blocks of a disconnected client only in the next step.
    """
    last: list[ServingState] = []

    async def idle() -> bool:
        try:
            last[:] = [await client.state()]
        except ClientError:
            return False
        return last[0].idle

    if await eventually(idle):
        return Verdict(True, IDLE)
    return Verdict(False, f"the engine is not idle at the end: {_held(last[0]) if last else 'the server is down'}")


def _held(state: ServingState) -> str:
    held = {
        "waiting": state.waiting,
        "running": state.running,
        "reserved blocks": state.reserved_blocks,
        "used blocks": state.used_blocks,
    }
    return ", ".join(f"{name} {value}" for name, value in held.items() if value)
