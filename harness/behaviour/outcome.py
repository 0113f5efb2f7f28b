"""What came of an action, held to what was expected of it: a verdict."""

from collections.abc import Sequence
from typing import Any

from harness.checks.verdict import Verdict
from harness.drivers.door import Answer, Choice, DoorError, RawAnswer
from harness.schema import Outcome

Result = Answer | DoorError | RawAnswer


def judge(
    label: str,
    results: Sequence[Result],
    expect: Outcome,
    *,
    right_texts: Sequence[str] = (),
    like: Sequence[Result] = (),
    prompt_tokens: Sequence[int] = (),
) -> Verdict:
    """``results`` go by request. ``right_texts`` are those of the reference, ``like`` what came of the action named in
    ``same_as``, ``prompt_tokens`` how long the prompts are; each where it is asked for.
    """
    errors = [result for result in results if isinstance(result, DoorError)]
    if errors:
        return judge_error(label, errors[0], expect)
    raw = next((result for result in results if isinstance(result, RawAnswer)), None)
    if raw is not None:
        return _judge_raw(label, raw, expect)
    answers = [result for result in results if isinstance(result, Answer)]
    choices = [choice for answer in answers for choice in answer.choices]
    data = _data(choices)
    if expect.error is not None:
        counts = [choice.tokens for choice in choices]
        return Verdict(False, f"{label}: expected an error, but {counts} tokens came back", data=data)
    wrong = [*_wrong(choices, expect), *_wrong_texts(choices, expect, right_texts, like)]
    if expect.usage:
        wrong += _wrong_usage(answers, prompt_tokens)
    if wrong:
        return Verdict(False, f"{label}: {wrong[0]}", tuple(wrong[1:]), data=data)
    return Verdict(True, f"{label}: {[choice.tokens for choice in choices]} tokens as expected", data=data)


def judge_error(label: str, error: DoorError, expect: Outcome) -> Verdict:
    """An error, where one was expected or where none was. In-process an error has neither status nor type."""
    data = {"error": error.message, "status": error.status, "type": error.kind}
    said = error.message if error.status is None else f"{error.status} {error.kind}: {error.message}"
    wanted = expect.error
    if wanted is None:
        return Verdict(False, f"{label}: refused: {said}", data=data)
    wrong = [f"the message lacks: {text}" for text in wanted.message_contains if text not in error.message]
    for name, seen, right in (("status", error.status, wanted.status), ("type", error.kind, wanted.type)):
        if right is not None and seen is not None and seen != right:
            wrong.append(f"{name} {seen}, expected {right}")
    if wrong:
        return Verdict(False, f"{label}: another error than expected", (f"it said:  {said}", *wrong), data=data)
    return Verdict(True, f"{label}: refused as expected", data=data)


def _judge_raw(label: str, raw: RawAnswer, expect: Outcome) -> Verdict:
    """An answer to a request that was sent as it is written."""
    data = {"status": raw.status, "body": raw.body[:2000]}
    if raw.error and raw.status >= 400 and expect.error is not None:
        return judge_error(label, DoorError(str(raw.error.get("message")), raw.status, raw.error.get("type")), expect)
    wrong = [] if expect.status in (None, raw.status) else [f"status {raw.status}, expected {expect.status}"]
    if expect.error is not None:
        wrong.append(f"status {raw.status} and no error in OpenAI's form")
    wrong += [f"the body lacks: {text}" for text in expect.contains if text not in raw.body]
    if wrong:
        return Verdict(False, f"{label}: {wrong[0]}", (*wrong[1:], f"it said:  {raw.body[:500]}"), data=data)
    return Verdict(True, f"{label}: status {raw.status} as expected", data=data)


def _wrong(choices: Sequence[Choice], expect: Outcome) -> list[str]:
    wrong = []
    for name, seen, right in (
        ("token counts", [choice.tokens for choice in choices], expect.token_counts),
        ("finish reasons", [choice.finish_reason for choice in choices], expect.finish_reasons),
        ("texts", [choice.text for choice in choices], expect.texts),
    ):
        if right is not None and seen != list(right):
            wrong.append(f"{name} {seen}, expected {list(right)}")
    return wrong


def _wrong_texts(
    choices: Sequence[Choice], expect: Outcome, right_texts: Sequence[str], like: Sequence[Result]
) -> list[str]:
    seen, wrong = [choice.text for choice in choices], []
    if expect.text == "reference":
        pairs = enumerate(zip(seen, right_texts, strict=True))
        wrong += [f"text {i} is {a!r}, Hugging Face's is {b!r}" for i, (a, b) in pairs if a != b]
    if expect.same_as is not None:
        others = [c.text for result in like if isinstance(result, Answer) for c in result.choices]
        if seen != others:
            wrong.append(f"texts {seen}, but those of {expect.same_as} are {others}")
    return wrong


def _wrong_usage(answers: Sequence[Answer], prompt_tokens: Sequence[int]) -> list[str]:
    wrong = []
    for answer, length in zip(answers, prompt_tokens, strict=True):
        right = (length, sum(choice.tokens or 0 for choice in answer.choices))
        if answer.usage != right:
            wrong.append(f"usage {answer.usage}, expected {right} (prompt, generated)")
    return wrong


def _data(choices: Sequence[Choice]) -> dict[str, Any]:
    return {
        "token_counts": [choice.tokens for choice in choices],
        "finish_reasons": [choice.finish_reason for choice in choices],
        "texts": [choice.text for choice in choices],
    }
