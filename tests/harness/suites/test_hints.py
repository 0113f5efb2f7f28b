"""Tests of the examples in the messages about suites: every key has one, and a suite can have it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from harness.suites.hints import EXAMPLES, example_of
from harness.suites.keys import SUITES, models_in
from harness.suites.schema import Happening, keys_of
from harness.suites.yaml.composer import Composer


def fields() -> Iterator[tuple[type[BaseModel], str, FieldInfo]]:
    """Yield (pydantic model, key, field) for every key that a suite can have."""
    seen: list[type[BaseModel]] = [*SUITES.values()]
    for model in seen:
        for key, field in keys_of(model).items():
            if model is not Happening:  # Its keys are not written in suites: `pause`, or `{pause: 0}`.
                yield model, key, field
            seen += [each for each in models_in(field.annotation) if each not in seen]


FIELDS = [*fields()]
NOT_ALONE = {"cases", "kind", "text_file"}
"""Keys whose examples are not complete, or depend on other keys or on files."""


@pytest.mark.parametrize(("model", "key", "field"), FIELDS, ids=[f"{model.__name__}.{key}" for model, key, _ in FIELDS])
def test_every_key_has_a_valid_example(model: type[BaseModel], key: str, field: FieldInfo, tmp_path: Path) -> None:
    hint = example_of(model.__name__, key)
    assert hint.startswith(f"such as `{key}: "), (
        f"give an example for {model.__name__}.{key} in harness/suites/hints.py"
    )
    if key in NOT_ALONE:
        return
    value = Composer(tmp_path / "example.yaml", hint.removeprefix("such as `").removesuffix("`")).source().data[key]
    wanted: Any = Annotated[(field.annotation, "of a suite", *field.metadata)]
    adapter: TypeAdapter[Any] = TypeAdapter(wanted)
    adapter.validate_python(value)


def test_no_example_is_for_a_key_that_does_not_exist() -> None:
    known = {name for model, key, _ in FIELDS for name in (key, f"{model.__name__}.{key}")}
    assert [name for name in EXAMPLES if name not in known] == []
