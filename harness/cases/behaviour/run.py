"""Run a behaviour case with a client: create the requests, look up their reference outputs, and check the results."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from harness.cases.behaviour.logprobs import ExpectedLogprobs
from harness.cases.behaviour.outcome import ExpectedAnswer
from harness.cases.behaviour.perform import label_of, perform
from harness.cases.behaviour.steps import Watched, check_generate, labelled
from harness.cases.compared import chat_spec, with_echoed_logprobs
from harness.cases.test import Test
from harness.checks.output.policies import DEFAULT_BOUNDS, precision_of
from harness.drivers.client import Client, ClientRequest
from harness.golden.tables import reference_path
from harness.references import Reference, ReferenceToken
from harness.references.stopping import ended, ended_text, forks, prompt_wanted_for, wanted_for
from harness.references.values import widened
from harness.suites.prompts import Vocabulary, model_of_run, request_spec, vocabulary_of
from harness.suites.schema import Action, BehaviourCase, Chat, Limits, Request
from harness.types import RequestSpec, SchedulingLimits, Verdict


def run_behaviour(test: Test, client: Client, watched: Watched | None = None) -> list[Verdict]:
    """Perform the actions of a behaviour case and check their outcomes.

    If ``watched`` is not None, also check the engine's steps during ``generate`` actions, and the engine's limits.

    Raises ValueError if the model can't tokenize a prompt, ReferenceMissingError if a reference output has not been
    computed, and ReferenceFileError if the file of reference outputs can't be read.
    """
    case, configuration = test.expanded.case, test.expanded.configuration
    assert isinstance(case, BehaviourCase)
    checkpoint = model_of_run(configuration.model)
    vocabulary = vocabulary_of(checkpoint)
    numbers = count()
    file = reference_path(test.suite_path, case.id, checkpoint.label)

    def make_request(request: Request) -> ClientRequest:
        position = next(numbers)
        spec = request_spec(request, case.id, position, vocabulary)
        if request.golden:
            wanted = [wanted_for(spec, vocabulary)]
            [reference] = test.oracle.references(checkpoint, wanted, file, [name_of(request, case)])
            spec = replace(spec, golden_token_ids=ended(reference, spec, vocabulary).token_ids)
        return ClientRequest(f"{case.id}-{position}", spec)

    def make_chat(chat: Chat) -> RequestSpec:
        return chat_spec(chat, vocabulary)

    def expected_answers(label: str, requests: Sequence[ClientRequest]) -> list[ExpectedAnswer]:
        answers = [request for request in requests for _ in range(request.n)]
        names = [f"request {i} of {label}" for i, request in enumerate(requests) for _ in range(request.n)]
        wanted = widened([wanted_for(request.spec, vocabulary) for request in answers])
        found = test.oracle.references(checkpoint, wanted, file, names)
        prompts = [prompt_wanted_for(_compared(request)) for request in answers]
        prompt_names = [f"the prompt of {name}" for name, each in zip(names, prompts, strict=True) if each]
        prompts_wanted = widened([each for each in prompts if each])
        scored = iter(test.oracle.references(checkpoint, prompts_wanted, file, prompt_names))
        precision = precision_of(configuration.backend, checkpoint)
        return [
            expected_answer(request, reference, next(scored) if prompt else None, vocabulary, precision)
            for request, reference, prompt in zip(answers, found, prompts, strict=True)
        ]

    def after_generate(label: str, action: Action, requests: Sequence[ClientRequest]) -> list[Verdict]:
        if watched is None or action.generate is None:
            return []
        specs = [replace(request.spec.truncated(), request_id=place) for place, request in enumerate(requests)]
        bounds = action.expect.max_steps if action.expect is not None else None
        return labelled(label, check_generate(watched, test.expanded.options, specs, action.generate, bounds))

    verdicts = asyncio.run(perform(case, client, make_request, make_chat, expected_answers, after_generate))
    return [*verdicts, *(check_limits(watched.limits, case.expect.limits) if watched is not None else [])]


def name_of(request: Request, case: BehaviourCase) -> str:
    """Return which request of which action of a case ``request`` is, for messages."""
    names = (
        f"request {i} of {label_of(number, action)}"
        for number, action in enumerate(case.actions)
        for i, call in enumerate(action.calls)
        if call is request
    )
    return next(names, "a request")


def _compared(request: ClientRequest) -> RequestSpec:
    """Return the request for which the reference output of ``request`` is computed.

    The answer to a request with ``echo`` and ``logprobs`` also has the logprobs of the prompt. For such a request, the
    returned request has ``prompt_logprobs``.
    """
    return with_echoed_logprobs(request.spec, request.logprobs) if request.echo else request.spec


def expected_answer(
    request: ClientRequest, reference: Reference, prompt: Reference | None, vocabulary: Vocabulary, precision: str
) -> ExpectedAnswer:
    """Return the answer that Hugging Face generates to a request.

    ``reference`` is Hugging Face's continuation of the prompt. ``prompt`` has the logprobs of the prompt's tokens from
    the second token on; it is None if logprobs of the prompt are not compared.
    """
    spec = request.spec.truncated()
    answer = ended(reference, spec, vocabulary)
    of_prompt = (None, *(prompt.tokens if prompt else ()))
    margin = DEFAULT_BOUNDS[precision].margin
    return ExpectedAnswer(
        text=(vocabulary.decode(spec.prompt_token_ids) if request.echo else "")
        + ended_text(reference, spec, vocabulary),
        logprobs=_logprobs([*(of_prompt if request.echo else ()), *answer.tokens], request.logprobs),
        precision=precision,
        forks=() if precision == "float32" else forks(answer, margin, vocabulary),
        prompt_logprobs=_logprobs(of_prompt, spec.prompt_logprobs),
    )


def _logprobs(tokens: Sequence[ReferenceToken | None], alternatives: int | None) -> ExpectedLogprobs:
    """Return the expected logprobs of tokens: their own, and those of the top tokens at their positions.

    The first token of a prompt is None, because it has no logprob. ``alternatives`` is the number of top tokens that
    the request asks for, None if it asks for no logprobs.
    """
    return ExpectedLogprobs(
        tuple(token and token.logprob for token in tokens),
        tuple(tuple(logprob for _, logprob in token.top) if token else () for token in tokens),
        alternatives or 0,
    )


def check_limits(limits: SchedulingLimits, expected: Limits) -> list[Verdict]:
    """Compare the effective limits that the engine reports with the expected ones.

    Limits that the engine does not report (None) are not compared.
    """
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
