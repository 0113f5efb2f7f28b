"""Check the results of an action, such as the answers to its requests, against the outcome that the case expects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from harness.cases.behaviour.fields import wrong_fields, wrong_headers
from harness.cases.behaviour.logprobs import ExpectedLogprobs, wrong_logprobs
from harness.drivers.client import Answer, Choice, ClientError, Logprobs, NoResponseError, RawAnswer
from harness.suites.schema import Outcome
from harness.types import Verdict

Result = Answer | ClientError | RawAnswer


@dataclass(frozen=True)
class ExpectedAnswer:
    """The answer that Hugging Face (the reference) generates to a request: its text, and the logprob of each token.

    ``precision`` is the precision in which the engine computes, such as ``float16``. ``forks`` are beginnings of other
    texts that are also correct. A fork equals the reference's text up to a token where two tokens are nearly equally
    likely in that precision, and continues with the second of the two. ``prompt_logprobs`` has the logprobs of the
    prompt's tokens.
    """

    text: str
    logprobs: ExpectedLogprobs
    precision: str
    forks: tuple[str, ...] = ()
    prompt_logprobs: ExpectedLogprobs | None = None

    def allows(self, text: str) -> bool:
        """Return whether ``text`` equals the reference's text, or begins with one of ``forks``.

        If it begins with a fork, the text after the fork is not compared.
        """
        return text == self.text or text.startswith(self.forks)


def check_outcome(
    label: str,
    results: Sequence[Result],
    expect: Outcome,
    *,
    expected_answers: Sequence[ExpectedAnswer] = (),
    others: Mapping[str, Sequence[Result]] = MappingProxyType({}),
    prompt_tokens: Sequence[int] = (),
) -> Verdict:
    """Check the ``results`` of an action, one for each of its requests, against ``expect``. Return one verdict.

    ``label`` names the action, for messages. The keyword arguments are needed only if ``expect`` refers to them:
    ``expected_answers`` has Hugging Face's answers, in the order of the engine's answers. ``others`` maps the name of
    each other action to the results of its requests. ``prompt_tokens`` has the length of each request's prompt in
    tokens.
    """
    errors = [result for result in results if isinstance(result, ClientError)]
    if errors:
        return check_error(label, errors[0], expect)
    raw = next((result for result in results if isinstance(result, RawAnswer)), None)
    if raw is not None:
        return _check_raw(label, raw, expect)
    answers = [result for result in results if isinstance(result, Answer)]
    choices = [choice for answer in answers for choice in answer.choices]
    data = _data(choices)
    if expect.error is not None:
        counts = [choice.tokens for choice in choices]
        return Verdict(False, f"{label}: expected an error, but got answers of {counts} tokens", data=data)
    wrong = [*_wrong(choices, expect), *_wrong_texts(choices, expect, expected_answers, others)]
    if expect.logprobs == "reference":
        wrong += [
            message
            for i, pair in enumerate(zip(choices, expected_answers, strict=True))
            for message in _wrong_logprobs(i, *pair)
        ]
    if expect.prompt_logprobs == "reference":
        pairs = enumerate(zip(choices, expected_answers, strict=True))
        wrong += [message for i, pair in pairs for message in _wrong_prompt_logprobs(i, *pair)]
    if expect.usage:
        wrong += _wrong_usage(answers, prompt_tokens)
    if wrong:
        return Verdict(False, f"{label}: {wrong[0]}", tuple(wrong[1:]), data=data)
    return Verdict(True, f"{label}: the answers are as expected, with {[c.tokens for c in choices]} tokens", data=data)


def check_error(label: str, error: ClientError, expect: Outcome) -> Verdict:
    """Check an error against the ``error`` that the case expects. The verdict is a failure if the case expects none.

    The status, the type and the parameter of an error are compared only over HTTP, because errors of an engine in this
    process have none of them. If a server gives no response, the expected status or type is missing.
    """
    data = {"error": error.message, "status": error.status, "type": error.kind, "param": error.param}
    text = error.message if error.status is None else f"{error.status} {error.kind}: {error.message}"
    wanted = expect.error
    if wanted is None:
        return Verdict(False, f"{label}: refused: {text}", data=data)
    wrong = [f"the message does not contain: {part}" for part in wanted.message_contains if part not in error.message]
    compared = [("status", error.status, wanted.status), ("type", error.kind, wanted.type)]
    compared += [("param", error.param, wanted.param)] if error.status is not None else []
    for name, seen, value in compared:
        known = seen is not None or name == "param" or isinstance(error, NoResponseError)
        if value is not None and known and seen != value:
            wrong.append(f"{f'no {name}' if seen is None else f'{name} {seen}'}, expected {value}")
    if wrong:
        return Verdict(False, f"{label}: the error is not the expected one", (f"error: {text}", *wrong), data=data)
    return Verdict(True, f"{label}: refused as expected", data=data)


def _check_raw(label: str, raw: RawAnswer, expect: Outcome) -> Verdict:
    """Check the response to an ``http`` action, which sends an HTTP request exactly as the suite file has it."""
    data = {"status": raw.status, "body": raw.body[:2000]}
    if raw.error and raw.status >= 400 and expect.error is not None:
        error = ClientError(str(raw.error.get("message")), raw.status, raw.error.get("type"), raw.error.get("param"))
        verdict = check_error(label, error, expect)
        more = [*wrong_headers(raw.headers, expect.headers), *wrong_fields(raw.body, expect.fields)]
        return Verdict(False, f"{label}: {more[0]}", tuple(more[1:]), data=data) if verdict.passed and more else verdict
    wrong = [] if expect.status in (None, raw.status) else [f"status {raw.status}, expected {expect.status}"]
    if expect.error is not None:
        wrong.append(f"the response has status {raw.status} and no OpenAI error object, expected an error")
    wrong += [f"the body does not contain: {text}" for text in expect.contains if text not in raw.body]
    wrong += wrong_headers(raw.headers, expect.headers)
    wrong += wrong_fields(raw.body, expect.fields)
    if wrong:
        return Verdict(False, f"{label}: {wrong[0]}", (*wrong[1:], f"answer: {raw.body[:500]}"), data=data)
    return Verdict(True, f"{label}: status {raw.status} as expected", data=data)


def _wrong(choices: Sequence[Choice], expect: Outcome) -> list[str]:
    wrong = []
    for name, seen, wanted in (
        ("token counts", [choice.tokens for choice in choices], expect.token_counts),
        ("finish reasons", [choice.finish_reason for choice in choices], expect.finish_reasons),
    ):
        if wanted is not None and seen != list(wanted):
            wrong.append(f"{name} {seen}, expected {list(wanted)}")
    texts = zip(choices, expect.texts or (), strict=False)
    wrong += [f"text {i} is {c.text!r}, expected {text!r}" for i, (c, text) in enumerate(texts) if c.text != text]
    return wrong


def _wrong_texts(
    choices: Sequence[Choice],
    expect: Outcome,
    expected_answers: Sequence[ExpectedAnswer],
    others: Mapping[str, Sequence[Result]],
) -> list[str]:
    seen, wrong = [choice.text for choice in choices], []
    if expect.text == "reference":
        pairs = enumerate(zip(seen, expected_answers, strict=True))
        wrong += [f"text {i} is {a!r}, Hugging Face's is {b.text!r}" for i, (a, b) in pairs if not b.allows(a)]
    for other, alike in ((expect.same_as, True), (expect.unlike, False)):
        if other is not None and (seen == _texts(others[other])) is not alike:
            compared = f"but those of {other} are {_texts(others[other])}" if alike else f"and so are those of {other}"
            wrong.append(f"the texts are {seen}, {compared}")
    return wrong


def _texts(results: Sequence[Result]) -> list[str]:
    """Return the texts of all answers to the requests of an action. For a request that failed, return its error."""
    found = [[c.text for c in result.choices] if isinstance(result, Answer) else [str(result)] for result in results]
    return [text for texts in found for text in texts]


def _wrong_logprobs(index: int, choice: Choice, expected: ExpectedAnswer) -> list[str]:
    """Return an error message for each logprob of an answer that is not close to the reference's."""
    seen = None if choice.logprobs is None else Logprobs(choice.logprobs, choice.alternatives)
    return wrong_logprobs(f"answer {index}", seen, expected.logprobs, expected.precision)


def _wrong_prompt_logprobs(index: int, choice: Choice, expected: ExpectedAnswer) -> list[str]:
    """Return an error message for each logprob of a token of the prompt that is not close to the reference's."""
    assert expected.prompt_logprobs is not None
    seen = None if choice.prompt_logprobs is None else Logprobs(choice.prompt_logprobs, choice.prompt_alternatives)
    return wrong_logprobs(f"answer {index}: prompt", seen, expected.prompt_logprobs, expected.precision)


def _wrong_usage(answers: Sequence[Answer], prompt_tokens: Sequence[int]) -> list[str]:
    wrong = []
    for answer, length in zip(answers, prompt_tokens, strict=True):
        wanted = (length, sum(choice.tokens or 0 for choice in answer.choices))
        if answer.usage != wanted:
            wrong.append(f"usage (prompt tokens, generated tokens) is {answer.usage}, expected {wanted}")
    return wrong


def _data(choices: Sequence[Choice]) -> dict[str, Any]:
    return {
        "token_counts": [choice.tokens for choice in choices],
        "finish_reasons": [choice.finish_reason for choice in choices],
        "texts": [choice.text for choice in choices],
    }
