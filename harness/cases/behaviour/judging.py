"""A behaviour case at a client: its requests as the client takes them, and what the reference says of them."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from harness.cases.behaviour.outcome import ExpectedAnswer
from harness.cases.behaviour.perform import perform
from harness.checks.output.policies import DEFAULT_BOUNDS, precision_of
from harness.drivers.base import Observation, Session, StepRecord
from harness.drivers.client import Client, ClientRequest
from harness.golden.tables import reference_path
from harness.references import Oracle
from harness.references.stopping import ended, ended_text, forks, wanted_for
from harness.references.values import widened
from harness.runs.runner import as_step
from harness.suites.prompts import Vocabulary, model_of_run, request_spec, vocabulary_of
from harness.suites.schema import Action, BehaviourCase, Case, Chat, Limits, OutputCase, Request, StepsCase
from harness.types import RequestSpec, Run, SchedulingLimits, Token, Verdict

CHAT_TOKENS = 16
"""New tokens of a conversation that does not say how many."""


Invariants = Callable[[Run, Sequence[RequestSpec], Sequence[Request], SchedulingLimits], Verdict]


@dataclass(frozen=True)
class Watched:
    """An engine in this process, what it is held to, and what must hold after every step of its scheduler."""

    session: Session
    limits: SchedulingLimits
    invariants: Invariants


def judge_behaviour(
    case: BehaviourCase,
    model: str,
    backend: str,
    client: Client,
    oracle: Oracle,
    suite_path: Path,
    watched: Watched | None = None,
) -> list[Verdict]:
    """Carry out the case and judge it; the steps of every ``generate`` too where the engine can be watched.

    Raises ValueError for a prompt the model has no tokens for, ReferenceMissingError, ReferenceFileError.
    """
    checkpoint = model_of_run(model)
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
        found = oracle.references(checkpoint, wanted, reference_path(suite_path, case.id, checkpoint.label))
        precision = precision_of(backend, checkpoint)
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
        return _invariants(watched, label, specs, action.generate)

    verdicts = asyncio.run(perform(case, client, make_request, make_chat, expected_answers, after_generate))
    return [*verdicts, *(check_limits(watched.limits, case.expect.limits) if watched is not None else [])]


def check_limits(limits: SchedulingLimits, expected: Limits) -> list[Verdict]:
    """The limits that the engine says it holds itself to; what it cannot say is not compared."""
    wanted = expected.model_dump(exclude_none=True)
    if not wanted:
        return []
    said = {name: getattr(limits, name) for name in wanted}
    wrong = [
        f"{name} {said[name]}, expected {wanted[name]}" for name in wanted if said[name] not in (None, wanted[name])
    ]
    if wrong:
        return [Verdict(False, f"the engine is held to other limits: {', '.join(wrong)}", rule=_LIMITS)]
    return [Verdict(True, f"the engine is held to {', '.join(f'{name} {value}' for name, value in said.items())}")]


_LIMITS = 'docs/scheduling-rules.md "Limits": what a limit is where none is given'


def chat_spec(chat: Chat, vocabulary: Vocabulary) -> RequestSpec:
    """A conversation as a request: its prompt is what the model's template makes of it. Raises ValueError."""
    prompt = vocabulary.chat([{"role": m.role, "content": m.content} for m in chat.messages])
    budget = chat.max_tokens or CHAT_TOKENS
    return RequestSpec(0, prompt, budget, temperature=chat.temperature, seed=chat.seed, ignore_eos=chat.ignore_eos)


def specs_with_reference(case: Case, vocabulary: Vocabulary) -> Iterator[RequestSpec]:
    """The requests of a case that are compared with the reference. Raises ValueError for an impossible prompt."""
    if isinstance(case, StepsCase | OutputCase):
        for position, request in enumerate(case.requests if case.expect.output == "reference" else ()):
            yield request_spec(request, case.id, position, vocabulary)
        return
    assert isinstance(case, BehaviourCase)
    position = 0
    for action in case.actions:
        if action.chat is not None and action.compared:
            yield chat_spec(action.chat, vocabulary)
        for call in action.calls:
            if action.compared:
                yield request_spec(call, case.id, position, vocabulary)
            position += action.flood.clients if action.flood is not None else 1


def has_reference(case: Case) -> bool:
    """Whether anything of a case is compared with the reference."""
    if isinstance(case, BehaviourCase):
        return any(action.compared for action in case.actions)
    return getattr(case, "expect", None) is not None and case.expect.output == "reference"  # type: ignore[attr-defined]


def _invariants(
    watched: Watched, label: str, specs: Sequence[RequestSpec], requests: Sequence[Request]
) -> list[Verdict]:
    """The invariants after every step of the last ``generate``, where they can be seen."""
    shown = watched.session.steps_of_generate()
    if not shown:
        return []
    positions = tuple(range(len(requests)))
    # Columns that the engine has are empty before the first step, those that it has not are None.
    optional = [None if column is None else () for column in shown[0][1][5:]]
    before = Observation(0, positions, (), 0, 0, *optional)
    steps = [as_step(0, StepRecord("start", (), (), ()), before)]
    tokens: list[list[Token]] = [[] for _ in requests]
    for record, seen in shown:
        for position, token in zip(record.request_outputs, record.tokens, strict=True):
            tokens[position].append(token)
        steps.append(as_step(len(steps), record, seen))
    run = Run(tuple(steps), tuple(map(tuple, tokens)))
    verdict = watched.invariants(run, specs, requests, watched.limits)
    return [replace(verdict, headline=f"{label}: {verdict.headline}")]
