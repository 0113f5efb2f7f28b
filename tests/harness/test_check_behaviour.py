"""Actions at the front door, and what came of each."""

import json
from typing import Any

import pytest

from harness.checks.behaviour import check_behaviour
from harness.checks.verdict import Verdict
from harness.drivers.base import Completion, Observation, RefusedError, SchedulingLimits, StepRecord, Token
from harness.prompts import nameless_spec
from harness.schema import BehaviourCase
from tests.harness.support import ScriptedSession


def action(*max_tokens: int, **expect: Any) -> dict[str, Any]:
    requests = [{"prompt": {"random_tokens": 10 * (i + 1)}, "max_tokens": most} for i, most in enumerate(max_tokens)]
    return {"generate": requests, "expect": expect}


def completion(count: int, reason: str | None = "length") -> Completion:
    return Completion(tuple(range(count)), "text", reason)


def checked(session: ScriptedSession, *actions: dict[str, Any]) -> list[Verdict]:
    case = BehaviourCase.model_validate({"id": "a-case", "actions": list(actions)})
    return check_behaviour(session, case, nameless_spec, SchedulingLimits(max_num_seqs=1))


def refused(message: str, **expect: Any) -> Verdict:
    return checked(ScriptedSession(answers=[RefusedError(message)]), action(5, **expect))[0]


def completed(*completions: Completion, **expect: Any) -> Verdict:
    session = ScriptedSession(answers=[list(completions)])
    return checked(session, action(*[5] * len(completions), **expect))[0]


def test_actions_are_carried_out_in_order_and_judged_each_with_the_end_after_them() -> None:
    session = ScriptedSession(answers=[[completion(5)], RefusedError("too long"), [completion(2), completion(3)]])
    verdicts = checked(
        session,
        action(5, token_counts=[5]),
        action(9, error={"message_contains": "too long"}),
        action(2, 3, token_counts=[2, 3], finish_reasons=["length", "length"]),
    )
    assert [verdict.headline for verdict in verdicts] == [
        "action 0 (generate): [5] tokens as expected",
        "action 1 (generate): refused as expected",
        "action 2 (generate): [2, 3] tokens as expected",
        "the engine is idle at the end",
    ]
    assert all(verdict.passed for verdict in verdicts)
    assert [[spec.max_tokens for spec in specs] for specs in session.generated] == [[5], [9], [2, 3]]


def test_requests_are_numbered_through_all_actions_of_a_case() -> None:
    session = ScriptedSession(answers=[[completion(5)] * 2, [completion(5)]])
    checked(session, action(5, 5, token_counts=[5, 5]), action(5, token_counts=[5]))
    assert [[spec.request_id for spec in specs] for specs in session.generated] == [[0, 1], [2]]


def test_the_next_action_is_carried_out_although_one_went_wrong() -> None:
    session = ScriptedSession(answers=[RefusedError("no"), [completion(5)]])
    verdicts = checked(session, action(5, token_counts=[5]), action(5, token_counts=[5]))
    assert [verdict.passed for verdict in verdicts] == [False, True, True]


# --- refusals --------------------------------------------------------------------------------------------------


def test_a_refusal_must_contain_each_of_the_texts() -> None:
    message = "Could not add request: the maximum number of output tokens is 20"
    assert refused(message, error={"message_contains": ["Could not", "tokens is 20"]}).passed
    verdict = refused(message, error={"message_contains": ["Could not", "tokens is 21", "is 22"]})
    assert not verdict.passed
    assert verdict.headline == "action 0 (generate): refused with another message"
    assert verdict.details == (f"message:  {message}", "expected: … tokens is 21 …", "expected: … is 22 …")


def test_a_refusal_where_tokens_were_expected_shows_the_engines_message() -> None:
    verdict = refused("the prompt is too long", token_counts=[5])
    assert not verdict.passed
    assert verdict.headline == "action 0 (generate): refused: the prompt is too long"


def test_tokens_where_a_refusal_was_expected_are_counted() -> None:
    verdict = completed(completion(5), completion(0), error={"message_contains": "too long"})
    assert not verdict.passed
    assert verdict.headline == "action 0 (generate): expected an error, but [5, 0] tokens came back"


def test_an_engine_that_breaks_has_not_refused() -> None:
    class Broken(ScriptedSession):
        def generate(self, requests: Any) -> list[Completion]:
            raise RuntimeError("too long")

    verdict = checked(Broken(), action(5, error={"message_contains": "too long"}))[0]
    assert not verdict.passed
    assert verdict.headline.startswith("action 0 (generate): the engine failed: RuntimeError: too long (")
    assert "in generate)" in verdict.headline
    assert verdict.details[-1] == "RuntimeError: too long"
    assert verdict.data["broken"]


# --- completions -----------------------------------------------------------------------------------------------


def test_other_token_counts_are_told_with_what_was_expected() -> None:
    verdict = completed(completion(4), completion(5), token_counts=[5, 5])
    assert not verdict.passed
    assert verdict.headline == "action 0 (generate): token counts [4, 5], expected [5, 5]"


def test_other_finish_reasons_are_told_with_what_was_expected() -> None:
    verdict = completed(completion(4, "stop"), completion(5, None), finish_reasons=["length", "length"])
    assert not verdict.passed
    assert verdict.headline == "action 0 (generate): finish reasons ['stop', None], expected ['length', 'length']"


def test_counts_and_reasons_that_are_both_wrong_are_both_told() -> None:
    verdict = completed(completion(4, "stop"), token_counts=[5], finish_reasons=["length"])
    assert verdict.headline == (
        "action 0 (generate): token counts [4], expected [5]; finish reasons ['stop'], expected ['length']"
    )


def test_what_a_case_does_not_say_is_not_compared() -> None:
    assert completed(completion(4, "stop"), token_counts=[4]).passed
    assert completed(completion(4, "stop"), finish_reasons=["stop"]).passed


def test_a_completion_too_few_is_a_difference() -> None:
    session = ScriptedSession(answers=[[completion(5)]])
    assert not checked(session, action(5, 5, token_counts=[5, 5]))[0].passed


def test_a_text_that_is_another_is_shown_beside_the_expected_one() -> None:
    assert completed(completion(5), completion(5), texts=["text", "text"]).passed
    verdict = completed(completion(5), completion(5), texts=["text", "tex"])
    assert verdict.headline == "action 0 (generate): request 1 got the text 'text', expected 'tex'"
    fewer = checked(ScriptedSession(answers=[[completion(5)]]), action(5, 5, texts=["text", "text"]))[0]
    assert fewer.headline == "action 0 (generate): request 1 got the text None, expected 'text'"


# --- the limits it is held to ----------------------------------------------------------------------------------


def held_to(limits: SchedulingLimits, **expected: int) -> Verdict:
    acted = action(5, token_counts=[5])
    case = BehaviourCase.model_validate({"id": "a-case", "actions": [acted], "expect": {"limits": expected}})
    return check_behaviour(ScriptedSession(answers=[[completion(5)]]), case, nameless_spec, limits)[-1]


def test_limits_are_compared_as_far_as_the_driver_says_them() -> None:
    built = SchedulingLimits(512, 4, 35, None)
    assert held_to(built, available_blocks=35, max_batch_tkv_limit=2048).passed
    verdict = held_to(built, available_blocks=36, max_num_seqs=4)
    assert verdict.headline == "the engine is held to other limits: available_blocks 35, expected 36"
    assert "Limits" in verdict.rule


# --- how the engine is left ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (Observation(0, (3,), ()), "waiting (3,)"),
        (Observation(64, (), (1, 0)), "running (1, 0)"),
        (Observation(0, (), (), 2, 0), "reserved blocks 2"),
        (Observation(0, (), (), 0, 1), "used blocks 1"),
        (Observation(64, (2,), (1,), 3, 2), "waiting (2,), running (1,), reserved blocks 3, used blocks 2"),
    ],
)
def test_an_engine_that_is_not_idle_at_the_end_says_what_it_holds(left: Observation, said: str) -> None:
    verdicts = checked(ScriptedSession(answers=[[completion(5)]], left=left), action(5, token_counts=[5]))
    assert [verdict.passed for verdict in verdicts] == [True, False]
    assert verdicts[1].headline == f"the engine is not idle at the end: {said}"


def test_an_engine_that_cannot_see_blocks_can_be_idle() -> None:
    session = ScriptedSession(answers=[[completion(5)]], left=Observation(0, (), (), None, None))
    assert checked(session, action(5, token_counts=[5]))[1].passed


def test_the_data_of_verdicts_survives_a_journey_as_json() -> None:
    session = ScriptedSession(answers=[[completion(4, None)], RefusedError("no")])
    verdicts = checked(session, action(5, token_counts=[5]), action(5, token_counts=[5]))
    data = [verdict.data for verdict in verdicts]
    assert json.loads(json.dumps(data)) == data
    assert data[0] == {"action": 0, "token_counts": [4], "finish_reasons": [None], "texts": ["text"]}
    assert data[1] == {"action": 1, "error": "no"}


# --- invariants ------------------------------------------------------------------------------------------------


def test_steps_that_can_be_seen_are_held_to_the_invariants() -> None:
    session = ScriptedSession(answers=[[completion(1), completion(1)]])
    session.watched = [
        (StepRecord("prefill", (0,), (), (Token(7),)), Observation(64, (1,), (0,), 2, 1)),
        (StepRecord("prefill", (1,), (), (Token(7),)), Observation(64, (), (1, 0), 4, 2)),
        (StepRecord("decode", (1, 0), (1, 0), (Token(7), Token(7))), Observation(65, (), (), 4, 4)),
        (StepRecord("idle", (), (), ()), Observation(0, (), (), 0, 0)),
    ]
    verdicts = checked(session, action(2, 2, token_counts=[1, 1]))
    assert verdicts[1].headline.startswith(
        "action 0 (generate): invariant broken at step 2: 2 sequences run, max_num_seqs is 1"
    )
