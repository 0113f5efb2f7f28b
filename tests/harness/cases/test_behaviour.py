"""Tests of the actions of behaviour cases, and of the checks of their responses, with a scripted client."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from harness.cases.behaviour import context, flood, waiting
from harness.cases.behaviour import perform as performing
from harness.cases.behaviour.logprobs import ExpectedLogprobs
from harness.cases.behaviour.outcome import ExpectedAnswer
from harness.cases.behaviour.perform import perform
from harness.cases.behaviour.run import check_limits
from harness.drivers.client import (
    Answer,
    Choice,
    ClientError,
    ClientRequest,
    NoResponseError,
    RawAnswer,
    ServingState,
    StreamChunk,
)
from harness.drivers.streams import assembled
from harness.suites.schema import BehaviourCase, Chat, Limits, Request
from harness.types import RequestSpec, SchedulingLimits, Verdict

IDLE = ServingState(0, 0, 0, 0)
LOGPROBS = ExpectedLogprobs((-0.1, -0.2, -0.3), ((-0.1, -2.5), (-0.2, -2.0), (-0.3, -1.5)), 2)
CALL = {"prompt": {"random_tokens": 4}, "max_tokens": 3}


class ScriptedClient:
    """A client that answers every request with ``text``, one letter per chunk, or raises ``refuses`` if it is given."""

    def __init__(
        self, text: str = "abc", refuses: ClientError | None = None, states: Sequence[ServingState] = ()
    ) -> None:
        self.text, self.refuses, self.states = text, refuses, list(states)
        self.calls: list[str] = []
        self.capabilities = frozenset({"http", "abort", "restart"})
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.raw = RawAnswer(200, "fine")
        self.left = False

    async def complete(self, request: ClientRequest) -> Answer:
        self.calls.append(f"complete {request.name}")
        await self.go_on.wait()
        if self.refuses:
            raise self.refuses
        choices = tuple(Choice(self.text, len(self.text), "length") for _ in range(request.n))
        return Answer(choices, (len(request.spec.prompt_token_ids), request.n * len(self.text)))

    async def stream(self, request: ClientRequest) -> AsyncGenerator[StreamChunk, None]:
        self.calls.append(f"stream {request.name}")
        if self.refuses:
            raise self.refuses
        try:
            for i, letter in enumerate(self.text):
                yield StreamChunk({0: letter}, {0: 1}, {0: "length"} if i == len(self.text) - 1 else {})
                await self.go_on.wait()
        finally:
            self.calls.append(f"closed {request.name}")

    async def generate(self, requests: Sequence[ClientRequest]) -> list[Answer]:
        return [await self.complete(request) for request in requests]

    async def abort(self, name: str) -> None:
        self.calls.append(f"abort {name}")
        self.go_on.set()

    async def call(self, method: str, path: str, content: Any) -> RawAnswer:
        self.calls.append(f"openai {method} {path} {content}")
        return self.raw

    async def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> RawAnswer:
        self.calls.append(f"{method} {path} {body.decode()} {headers['Content-Type']}")
        return self.raw

    async def state(self) -> ServingState:
        return (self.states.pop(0) if len(self.states) > 1 else self.states[0]) if self.states else IDLE

    async def metrics(self) -> dict[str, int]:
        return {"prompt_tokens": 10 + 4 * len(self.calls), "generated_tokens": 3 * len(self.calls)}

    async def healthy(self) -> bool:
        return True

    async def restart(self, how: str) -> None:
        self.calls.append(f"restart {how}")

    @property
    def url(self) -> str:
        return "http://nowhere"

    async def leave(self) -> None:
        self.left = True

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (flood, performing, context, waiting):
        monkeypatch.setattr(module, "SECONDS", 0.4)


def run(client: ScriptedClient, *actions: dict[str, Any], right: str = "abc") -> list[Verdict]:
    case = BehaviourCase.model_validate({"id": "scripted", "actions": list(actions)})
    numbers = iter(range(100))

    def make_request(request: Request) -> ClientRequest:
        number = next(numbers)
        return ClientRequest(f"r{number}", RequestSpec(number, (1, 2, 3, 4), request.max_tokens))

    def make_chat(chat: Chat) -> RequestSpec:
        return RequestSpec(0, (1, 2, 3, 4), chat.max_tokens or 3)

    def expected_answers(_: str, requests: Sequence[ClientRequest]) -> list[ExpectedAnswer]:
        return [ExpectedAnswer(right, LOGPROBS, "float32") for _ in requests]

    return asyncio.run(perform(case, client, make_request, make_chat, expected_answers, lambda *_: []))


def failed(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.headline for verdict in verdicts if not verdict.passed]


def complete(**expect: Any) -> dict[str, Any]:
    return {"complete": CALL, "expect": expect}


def stream(**expect: Any) -> dict[str, Any]:
    return {"stream": CALL, "expect": expect}


# --- answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [complete, stream])
def test_what_is_as_expected_passes_and_the_client_is_left(action: Any) -> None:
    client = ScriptedClient()
    verdicts = run(client, action(token_counts=[3], finish_reasons=["length"], texts=["abc"], text="reference"))
    assert failed(verdicts) == []
    assert [v.headline for v in verdicts][1:] == ["the engine is idle at the end"]
    assert client.left


@pytest.mark.parametrize(
    ("expect", "output"),
    [
        ({"token_counts": [4]}, "token counts [3], expected [4]"),
        ({"finish_reasons": ["stop"]}, "finish reasons ['length'], expected ['stop']"),
        ({"texts": ["abd"]}, "text 0 is 'abc', expected 'abd'"),
        ({"error": {"message_contains": "no"}}, "expected an error, but got answers of [3] tokens"),
    ],
)
def test_differences_show_both_values(expect: dict[str, Any], output: str) -> None:
    assert failed(run(ScriptedClient(), complete(**expect))) == [f"action 0 (complete): {output}"]
    assert failed(run(ScriptedClient(), stream(**expect))) == [f"action 0 (stream): {output}"]


def test_a_text_is_compared_with_the_reference_and_with_an_earlier_one() -> None:
    verdicts = run(ScriptedClient(), complete(text="reference"), right="abx")
    assert failed(verdicts) == ["action 0 (complete): text 0 is 'abc', Hugging Face's is 'abx'"]
    named = {"complete": CALL, "name": "first"}
    ended = {"wait": {"end_of": "first"}}
    assert failed(run(ScriptedClient(), named, ended, complete(same_as="first"))) == []
    early = failed(run(ScriptedClient(), named, complete(same_as="first")))
    fix = "add the action `wait: {end_of: first}` before this one"
    assert early == [f"action 1 (complete): the action first has not ended yet; {fix}"]


def test_the_texts_of_a_named_generate_are_those_of_all_its_requests() -> None:
    named = {"generate": [CALL, CALL], "name": "both"}
    assert failed(run(ScriptedClient(), named, {"generate": [CALL, CALL], "expect": {"same_as": "both"}})) == []
    alike = failed(run(ScriptedClient(), named, {"generate": [CALL, CALL], "expect": {"unlike": "both"}}))
    assert alike == ["action 1 (generate): the texts are ['abc', 'abc'], and so are those of both"]
    fewer = failed(run(ScriptedClient(), named, complete(same_as="both")))
    assert fewer == ["action 1 (complete): the texts are ['abc'], but those of both are ['abc', 'abc']"]


def test_an_answer_can_be_held_to_differ_from_another() -> None:
    named, ended = {"complete": CALL, "name": "first"}, {"wait": {"end_of": "first"}}
    assert failed(run(ScriptedClient(), named, ended, complete(unlike="first"))) == [
        "action 2 (complete): the texts are ['abc'], and so are those of first"
    ]


def test_logprobs_are_compared_with_the_reference() -> None:
    class Scored(ScriptedClient):
        async def complete(self, request: ClientRequest) -> Answer:
            return Answer((Choice("abc", 3, "length", (-0.1, -0.4, -0.3), LOGPROBS.top),))

    assert failed(run(Scored(), complete(logprobs="reference"))) == [
        "action 0 (complete): answer 0: logprob of token 1 is -0.4000, Hugging Face says -0.2000"
    ]
    assert failed(run(ScriptedClient(), complete(logprobs="reference"))) == [
        "action 0 (complete): answer 0 has 0 logprobs, expected 3"
    ]


def test_the_refusal_of_a_background_request_is_reported() -> None:
    named = {"stream": CALL, "name": "first"}
    output = failed(run(ScriptedClient(refuses=REFUSAL), named, {"wait": {"chunks": 3, "of": "first"}}))
    assert output[0] == "action 1 (wait): first ended after 0 chunks, expected 3: the prompt is too long"


def test_usage_counts_prompt_and_answers() -> None:
    assert failed(run(ScriptedClient(), complete(usage=True))) == []
    assert failed(run(ScriptedClient(), stream(usage=True))) == [
        "action 0 (stream): usage (prompt tokens, generated tokens) is None, expected (4, 3)"
    ]


# --- errors ----------------------------------------------------------------------------------------------------

REFUSAL = ClientError("the prompt is too long", 400, "invalid_request_error")


def test_an_error_that_was_expected_passes_by_words_status_and_type() -> None:
    wanted = {"message_contains": ["too long"], "status": 400, "type": "invalid_request_error"}
    assert failed(run(ScriptedClient(refuses=REFUSAL), complete(error=wanted), stream(error=wanted))) == []
    in_process = ClientError("the prompt is too long")
    assert failed(run(ScriptedClient(refuses=in_process), complete(error=wanted))) == []


def test_a_server_without_a_response_has_not_refused() -> None:
    silent = ScriptedClient(refuses=NoResponseError("the server did not answer"))
    for wanted, says in (({"status": 400}, "no status, expected 400"), ({"type": "bad"}, "no type, expected bad")):
        [verdict] = [v for v in run(silent, complete(error=wanted)) if not v.passed]
        assert verdict.details == ("error: the server did not answer", says)


def test_an_error_with_other_words_status_or_type_is_another_error() -> None:
    wanted = {"message_contains": ["too short"], "status": 413, "type": "other"}
    [verdict] = [v for v in run(ScriptedClient(refuses=REFUSAL), complete(error=wanted)) if not v.passed]
    assert verdict.headline == "action 0 (complete): the error is not the expected one"
    assert verdict.details == (
        "error: 400 invalid_request_error: the prompt is too long",
        "the message does not contain: too short",
        "status 400, expected 413",
        "type invalid_request_error, expected other",
    )


def test_an_unexpected_error_fails() -> None:
    [output] = failed(run(ScriptedClient(refuses=REFUSAL), complete(token_counts=[3])))
    assert output == "action 0 (complete): refused: 400 invalid_request_error: the prompt is too long"


def test_a_request_as_it_is_written_is_held_to_its_status_and_body() -> None:
    client = ScriptedClient()
    raw = {"http": {"content": {"a": 1}, "path": "/x"}, "expect": {"status": 200, "contains": "fine"}}
    assert failed(run(client, raw)) == []
    assert client.calls == ['POST /x {"a": 1} application/json']
    client.raw = RawAnswer(500, "broken")
    assert failed(run(client, raw)) == ["action 0 (http): status 500, expected 200"]
    wants_error = {"http": {"body": "x"}, "expect": {"error": {"status": 400}}}
    assert failed(run(client, wants_error)) == [
        "action 0 (http): the response has status 500 and no OpenAI error object, expected an error"
    ]
    client.raw = RawAnswer(400, "{}", {"message": "no", "type": "bad"})
    assert failed(run(client, wants_error)) == []


# --- in the background -----------------------------------------------------------------------------------------


def test_a_named_action_runs_in_the_background() -> None:
    named = {"stream": CALL, "name": "first", "expect": {"token_counts": [9]}}
    verdicts = run(ScriptedClient(), named, {"wait": {"chunks": 2, "of": "first"}}, complete(token_counts=[3]))
    assert failed(verdicts) == ["action 0 (stream first): token counts [3], expected [9]"]


def test_a_client_that_leaves_closes_its_stream() -> None:
    client = ScriptedClient()
    client.go_on.clear()
    named = {"stream": CALL, "name": "first"}
    verdicts = run(client, named, {"wait": {"chunks": 1, "of": "first"}}, {"disconnect": "first"})
    assert failed(verdicts) == []
    assert client.calls == ["stream r0", "closed r0"]
    assert "the client of first disconnected after 1 chunks" in verdicts[1].headline
    left_early = run(ScriptedClient(), {"stream": {**CALL, "leave_after": 1}, "expect": {"token_counts": [1]}})
    assert failed(left_early) == []


def test_leaving_what_has_ended_is_a_failure() -> None:
    named = {"complete": CALL, "name": "first"}
    output = failed(run(ScriptedClient(), named, {"wait": {"idle": True}}, {"disconnect": "first"}))
    assert output == ["action 2 (disconnect): the action first had ended before the client disconnected"]


def test_abort_and_restart_reach_the_client() -> None:
    client = ScriptedClient()
    client.go_on.clear()
    run(client, {"complete": CALL, "name": "first"}, {"abort": "first"}, {"restart": "kill"})
    assert client.calls == ["complete r0", "abort r0", "restart kill"]


# --- waiting ---------------------------------------------------------------------------------------------------


def test_waiting_ends_when_it_is_so_or_says_what_was_seen_last() -> None:
    busy = ServingState(1, 2, 3, 4)
    assert failed(run(ScriptedClient(states=[busy, busy, IDLE]), {"wait": {"idle": True}})) == []
    output = failed(run(ScriptedClient(states=[busy]), {"wait": {"running": 1}}))
    late = "action 0 (wait): the condition (running 1) was not met within 0.4 s; last state: ServingState("
    assert output[0].startswith(late)
    assert output[1] == "the engine is not idle at the end: waiting 1, running 2, reserved blocks 4, used blocks 3"


def test_an_action_that_never_ends_is_a_failure_and_not_a_hang() -> None:
    client = ScriptedClient()
    client.go_on.clear()
    assert failed(run(client, complete(token_counts=[3]))) == ["action 0 (complete): refused: did not end within 0.8 s"]
    client = ScriptedClient()
    client.go_on.clear()
    named = {"stream": CALL, "name": "first", "expect": {"token_counts": [3]}}
    output = failed(run(client, named, {"wait": {"chunks": 3, "of": "first"}}))
    assert output[0] == "action 1 (wait): first sent 1 of 3 chunks within 0.4 s"


def test_lateness_is_reported_in_tokens() -> None:
    named = {"stream": CALL, "name": "first", "expect": {"token_counts": [3]}}
    all_of_it = {"wait": {"chunks": 3, "of": "first"}}
    output = failed(
        run(ScriptedClient(), named, all_of_it, {"wait": {"idle": True, "before_tokens": 3, "of": "first"}})
    )
    assert output == [
        "action 2 (wait): the condition (idle True, before_tokens 3, of first) was met too late: "
        "first had already received 3 tokens"
    ]


# --- floods and named checks -----------------------------------------------------------------------------------


def test_a_flood_counts_who_stayed_and_compares_each_with_its_request_alone() -> None:
    flood = {"flood": {"clients": 6, "call": CALL, "leave": {"every": 3, "after": 1}}}
    verdicts = run(ScriptedClient(), flood)
    assert verdicts[0].headline == "action 0 (flood): 4 clients got complete answers, 2 disconnected"
    short = failed(run(ScriptedClient(text="ab"), flood))
    assert short == ["action 0 (flood): r0 got answers of [2] tokens, expected [3]"]
    refused = failed(run(ScriptedClient(refuses=REFUSAL), flood))
    assert refused == ["action 0 (flood): r0 was refused: the prompt is too long"]


def test_a_client_that_gets_anothers_text_is_noticed() -> None:
    class Mixing(ScriptedClient):
        async def complete(self, request: ClientRequest) -> Answer:
            return Answer((Choice("xyz", 3, "length"),))

    output = failed(run(Mixing(), {"flood": {"clients": 2, "call": CALL}}))
    assert output == ["action 0 (flood): r0 got ['abc'], but the same request alone got ['xyz']"]


async def a_check_of_ours(context: Any, well: bool = True) -> str:
    from harness.cases.behaviour.named import CheckFailedError

    if not well:
        raise CheckFailedError("it is not well")
    return "it is well"


async def a_check_that_crashes(context: Any) -> str:
    return str(1 / 0)


def test_a_named_check_of_another_package() -> None:
    name = f"{__name__}:a_check_of_ours"
    assert run(ScriptedClient(), {"check": name})[0].headline.endswith("it is well")
    assert failed(run(ScriptedClient(), {"check": {"name": name, "options": {"well": False}}}))[0].endswith(
        "it is not well"
    )
    crashed = failed(run(ScriptedClient(), {"check": f"{__name__}:a_check_that_crashes"}, complete(token_counts=[3])))
    assert crashed[0].startswith("action 0 (check ")
    assert "the check raised ZeroDivisionError" in crashed[0]
    assert len(crashed) == 1
    assert "unexpected keyword" in failed(run(ScriptedClient(), {"check": {"name": name, "options": {"x": 1}}}))[0]


def test_metrics_are_counted_from_the_start_of_the_case() -> None:
    counted = {"metrics": {"prompt_tokens": 8, "generated_tokens": 6}}
    twice = [complete(token_counts=[3]), complete(token_counts=[3])]
    assert failed(run(ScriptedClient(), *twice, counted)) == []
    output = failed(run(ScriptedClient(), complete(token_counts=[3]), {"metrics": {"generated_tokens": 6}}))
    assert output == ["action 1 (metrics): generated_tokens 3, expected 6"]
    output = failed(run(ScriptedClient(), {"metrics": {"finished_requests": 1}}))
    assert output == ["action 0 (metrics): finished_requests not reported, expected 1"]


def test_limits_are_compared_as_far_as_the_driver_says_them() -> None:
    built = SchedulingLimits(512, 4, 35, None)
    assert check_limits(built, Limits()) == []
    assert check_limits(built, Limits(available_blocks=35, max_batch_tkv_limit=2048))[0].passed
    [verdict] = check_limits(built, Limits(available_blocks=36, max_num_seqs=4))
    assert verdict.headline == "the engine's limits are not the expected ones: available_blocks 35, expected 36"
    assert "Limits" in verdict.rule


def test_chunks_add_up() -> None:
    chunks = [StreamChunk({0: "a", 1: "x"}, {0: 1, 1: 2}), StreamChunk({0: "b"}, {0: 1}, {0: "stop"}, (4, 5))]
    assert assembled(chunks, 2) == Answer((Choice("ab", 2, "stop"), Choice("x", 2, None)), (4, 5))
