"""The keys that a suite file may have at each place, by the pydantic models of the suite format."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, get_args

from pydantic import BaseModel

from harness.suites.schema import AnySuite, BehaviourSuite, OutputSuite, StepsSuite, keys_of
from harness.suites.yaml import Source, YamlPath

SUITES: Mapping[str, type[StepsSuite | OutputSuite | BehaviourSuite]] = MappingProxyType(
    {get_args(model.model_fields["kind"].annotation)[0]: model for model in (StepsSuite, OutputSuite, BehaviourSuite)}
)
"""The pydantic model of the suites of each kind."""


def model_at(source: Source, path: YamlPath) -> type[BaseModel]:
    """Return the pydantic model of the mapping at ``path``. The file must have a valid ``kind``."""
    model: type[BaseModel] = SUITES[str(source.node(("kind",)).content)]
    for part in path:
        if isinstance(part, str):
            model = next(models_in(keys_of(model)[part].annotation))
    return model


def known_keys(source: Source, path: YamlPath) -> list[str]:
    """Return the keys that are allowed in the mapping at ``path``."""
    return list(keys_of(model_at(source, path)))


def field_at(source: Source, path: YamlPath) -> tuple[str, str] | None:
    """Return (name of the pydantic model, key) of the last key in ``path`` that the suite format has.

    The keys of a mapping that has any keys, such as ``logit_bias``, are not keys of the suite format. Return None if
    ``path`` has no key of the suite format.
    """
    kind = source.node(("kind",)).content if source.resolve(("kind",)) else None
    model: type[BaseModel] | None = SUITES.get(str(kind), AnySuite)
    found = None
    for part in path:
        if isinstance(part, str):
            field = keys_of(model).get(part) if model else None
            if model is None or field is None:
                break
            found = (model.__name__, part)
            model = next(models_in(field.annotation), None)
    return found


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the pydantic models in the annotation of a field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)
