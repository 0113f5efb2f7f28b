"""Tests of ``run_behaviour`` with a scripted client: the message about a missing reference says of which request."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from checkpoints import Checkpoint
from harness.cases.behaviour.run import run_behaviour
from harness.cases.test import Test
from harness.drivers.client import Client
from harness.references import Oracle, Reference, ReferenceMissingError, ReferenceToken, Wanted
from harness.suites.expand import expand
from harness.suites.loader import load_suite
from tests.harness.cases.test_behaviour import ScriptedClient
from tests.helpers.pytest_runs import write

SUITE = """\
suite: mine
kind: behaviour
cases:
  - id: scripted
    actions:
      - wait: {idle: true}
      - complete: {prompt: {text: a}, max_tokens: 3}
        expect: {token_counts: [3]}
"""
CALL = "{prompt: {text: Return the number of}, max_tokens: 3}"


class WithoutPrompts(Oracle):
    """An oracle that has every continuation, but no logprobs of prompts."""

    def on_file(self, checkpoint: Checkpoint, wanted: Sequence[Wanted], file: Path | None) -> list[Reference | None]:
        token = ReferenceToken(5, -0.1, ((5, -0.1), (6, -2.5)))
        return [None if each.given else Reference((token,) * each.max_tokens) for each in wanted]


def missing(folder: Path, oracle: Oracle, *actions: str) -> str:
    """Run a case with ``actions`` after two others, and return what the message about missing references names."""
    write(folder, mine=SUITE + "".join(f"      - {action}\n" for action in actions))
    path = folder / "mine.yaml"
    [expanded] = expand(load_suite(path).suite, ["tiny-granite"])
    test = Test(path, "mine", expanded, frozenset(), "", oracle=oracle)
    client: Any = ScriptedClient()
    with pytest.raises(ReferenceMissingError) as caught:
        run_behaviour(test, cast("Client", client))
    return str(caught.value).partition(" for ")[2].partition(": ")[0]


@pytest.mark.parametrize(
    ("actions", "named"),
    [
        ([f"{{complete: {CALL}, expect: {{text: reference}}}}"], "request 0 of action 2 (complete)"),
        (
            [f"{{name: runs, stream: {CALL}, expect: {{text: reference}}}}", "wait: {end_of: runs}"],
            "request 0 of action 2 (stream runs)",
        ),
        (
            [f"{{generate: [{CALL}, {CALL}], expect: {{text: reference}}}}"],
            "request 0 of action 2 (generate), request 1 of action 2 (generate)",
        ),
        (
            [f"{{generate: [{CALL}, {CALL[:-1]}, golden: true}}], expect: {{token_counts: [3, 3]}}}}"],
            "request 1 of action 2 (generate)",
        ),
        (
            [f"{{complete: {CALL[:-1]}, n: 2}}, expect: {{text: reference}}}}"],
            "request 0 of action 2 (complete)",
        ),
    ],
)
def test_a_missing_reference_is_named_by_its_place_in_the_case(
    tmp_path: Path, actions: Sequence[str], named: str
) -> None:
    assert missing(tmp_path, Oracle(may_compute=False), *actions) == named


def test_a_missing_reference_of_a_prompt_is_named_as_such(tmp_path: Path) -> None:
    asking = f"{CALL[:-1]}, prompt_logprobs: 2}}"
    action = f"{{generate: [{CALL}, {asking}], expect: {{text: reference}}}}"
    oracle = WithoutPrompts(may_compute=False)
    assert missing(tmp_path, oracle, action) == "the prompt of request 1 of action 2 (generate)"
