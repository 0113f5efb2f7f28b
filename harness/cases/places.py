"""Find the value of a case that an error is about, so that the message can give its position in the suite file."""

from collections.abc import Iterator

from harness.cases.test import CaseError
from harness.references.structures import StructureError
from harness.suites.schema import Action, BehaviourCase, Case, Chat, OutputCase, Request, StepsCase
from harness.suites.schema.structured import StructuredOutputs
from harness.suites.yaml import YamlPath
from harness.types import Structure


def place_in_case(case: Case, error: CaseError | StructureError) -> YamlPath:
    """Return the path of the value of ``case`` that ``error`` is about, () if it is about the whole case.

    For a structure that can't be compiled, this is its first place in the case.
    """
    if isinstance(error, CaseError):
        return error.at
    return () if error.structure is None else _place_of(case, error.structure)


def _place_of(case: Case, structure: Structure) -> YamlPath:
    places = (
        (*path, "structured_outputs")
        for path, request in _requests(case)
        if StructuredOutputs.of(request.structured_outputs) == structure
    )
    return next(places, ())


def _requests(case: Case) -> Iterator[tuple[YamlPath, Request | Chat]]:
    """Yield (path in the case, request) for each request of a case."""
    if isinstance(case, BehaviourCase):
        for number, action in enumerate(case.actions):
            for path, request in _of_action(action):
                yield ("actions", number, *path), request
    elif isinstance(case, StepsCase | OutputCase):
        for number, each in enumerate(case.requests):
            yield ("requests", number), each


def _of_action(action: Action) -> Iterator[tuple[YamlPath, Request | Chat]]:
    for number, call in enumerate(action.generate or ()):
        yield ("generate", number), call
    if action.flood is not None:
        yield ("flood", "call"), action.flood.call
    for name in ("complete", "stream", "chat"):
        if (request := getattr(action, name)) is not None:
            yield (name,), request
