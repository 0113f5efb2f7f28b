"""Run a behaviour case with a client: create its requests, look up their references, and check the results."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from harness.cases.behaviour.outcome import ExpectedAnswer
from harness.cases.behaviour.perform import perform
from harness.cases.behaviour.steps import Watched, check_generate, labelled
from harness.cases.compared import chat_spec
from harness.cases.test import Test
from harness.checks.output.policies import DEFAULT_BOUNDS, precision_of
from harness.drivers.client import Client, ClientRequest
from harness.golden.tables import reference_path
from harness.references.stopping import ended, ended_text, forks, wanted_for
from harness.references.values import widened
from harness.suites.prompts import model_of_run, request_spec, vocabulary_of
from harness.suites.schema import Action, BehaviourCase, Chat, Limits, Request
from harness.types import RequestSpec, SchedulingLimits, Verdict


def run_behaviour(test: Test, client: Client, watched: Watched | None = None) -> list[Verdict]:
    """Perform the actions of the case and check their outcomes. With ``watched``, check the engine's steps as well.

    Raises ValueError if the model can't tokenize a prompt, ReferenceMissingError if a reference output has not been
    computed, and ReferenceFileError if the file of references can't be read.
    """
    case, configuration = test.expanded.case, test.expanded.configuration
    assert isinstance(case, BehaviourCase)
    checkpoint = model_of_run(configuration.model)
    vocabulary = vocabulary_of(checkpoint)
    numbers = count()

    def make_request(request: Request) -> ClientRequest:
        position = next(numbers)
        return ClientRequest(f"{case.id}-{position}", request_spec(request, case.id, position, vocabulary))

    def make_chat(chat: Chat) -> RequestSpec:
        return chat_spec(chat, vocabulary)

    def expected_answers(requests: Sequence[ClientRequest]) -> list[ExpectedAnswer]:
        pairs = [(request.spec, request.logprobs or 0) for request in requests for _ in range(request.n)]
        wanted = widened([wanted_for(spec, vocabulary) for spec, _ in pairs])
        file = reference_path(test.suite_path, case.id, checkpoint.label)
        found = test.oracle.references(checkpoint, wanted, file)
        precision = precision_of(configuration.backend, checkpoint)
        return [
            ExpectedAnswer(
                ended_text(reference, spec, vocabulary),
                tuple(token.logprob for token in ended(reference, spec, vocabulary).tokens),
                alternatives,
                precision,
                forks(ended(reference, spec, vocabulary), DEFAULT_BOUNDS[precision].margin, vocabulary)
                if precision != "float32"
                else (),
            )
            for reference, (spec, alternatives) in zip(found, pairs, strict=True)
        ]

    def after_generate(label: str, action: Action, requests: Sequence[ClientRequest]) -> list[Verdict]:
        if watched is None or action.generate is None:
            return []
        specs = [replace(request.spec, request_id=place) for place, request in enumerate(requests)]
        bounds = action.expect.max_steps if action.expect is not None else None
        return labelled(label, check_generate(watched, test.expanded.options, specs, action.generate, bounds))

    verdicts = asyncio.run(perform(case, client, make_request, make_chat, expected_answers, after_generate))
    return [*verdicts, *(check_limits(watched.limits, case.expect.limits) if watched is not None else [])]


def check_limits(limits: SchedulingLimits, expected: Limits) -> list[Verdict]:
    """Compare the effective limits that the engine reports with the expected ones. Unreported limits are skipped."""
    wanted = expected.model_dump(exclude_none=True)
    if not wanted:
        return []
    reported = {name: getattr(limits, name) for name in wanted}
    wrong = [
        f"{name} {reported[name]}, expected {wanted[name]}"
        for name in wanted
        if reported[name] not in (None, wanted[name])
    ]
    if wrong:
        return [Verdict(False, f"the engine's limits are not the expected ones: {', '.join(wrong)}", rule=_LIMITS)]
    return [
        Verdict(True, f"the engine has the limits {', '.join(f'{name} {value}' for name, value in reported.items())}")
    ]


_LIMITS = 'docs/scheduling-rules.md "Limits": the defaults of limits that are not given'
