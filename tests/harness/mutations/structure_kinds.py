"""Mutations of single kinds of structured outputs: an engine that allows more, or less, than a structure does."""

from collections.abc import Callable

import pytest

from engine.grammars import Grammar, Grammars
from engine.structured_outputs import StructuredOutputsParams
from tests.harness.mutations.registry import Patch, output_mutation

KIND_CASES = {
    "json": "json-of-a-schema",
    "regex": "a-regular-expression-for-the-whole-answer",
    "choice": "one-text-of-a-choice",
    "grammar": "a-grammar-in-either-notation",
    "json_object": "any-json-object",
}
"""The case of each kind, which uses no other kind."""

LOOSER = {
    "json": StructuredOutputsParams(json={}),
    "regex": StructuredOutputsParams(regex="(?s:.*)"),
    "choice": StructuredOutputsParams(regex="[a-z]+"),
    "grammar": StructuredOutputsParams(regex="[^0-9]+"),
    "json_object": StructuredOutputsParams(json={}),
}
"""What applies instead of each kind: any JSON, any text, any word, any text without digits, any JSON."""


def compile_instead(
    patch: pytest.MonkeyPatch, change: Callable[[StructuredOutputsParams], StructuredOutputsParams]
) -> None:
    """Compile what ``change`` returns instead of a structure."""
    start = Grammars.start

    def changed(self: Grammars, params: StructuredOutputsParams) -> Grammar:
        return start(self, change(params))

    patch.setattr(Grammars, "start", changed)


def loosening(kind: str) -> Patch:
    """Return the patch with which a structure of this kind allows more than it should."""

    def patch_it(patch: pytest.MonkeyPatch) -> None:
        compile_instead(patch, lambda params: LOOSER[kind] if params.kind == kind else params)

    patch_it.__name__ = f"allow_more_than_a_{kind}"
    patch_it.__module__ = __name__
    return patch_it


for _kind, _case in KIND_CASES.items():
    output_mutation(_case, "Hugging Face says")(loosening(_kind))


@output_mutation("one-text-of-a-choice", "Hugging Face says")
def offer_the_longest_text_of_a_choice_only(patch: pytest.MonkeyPatch) -> None:
    def longest(params: StructuredOutputsParams) -> StructuredOutputsParams:
        if params.choice is None:
            return params
        return StructuredOutputsParams(choice=(max(params.choice, key=len),))

    compile_instead(patch, longest)
