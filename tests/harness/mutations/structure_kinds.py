"""Mutations of single kinds of structured outputs, such as json or regex.

With a mutation, the engine allows more, or fewer, tokens than the structure allows.
"""

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
"""The case that must detect the mutation of each kind. It uses no other kind."""

LOOSER = {
    "json": StructuredOutputsParams(json={}),
    "regex": StructuredOutputsParams(regex="(?s:.*)"),
    "choice": StructuredOutputsParams(regex="[a-z]+"),
    "grammar": StructuredOutputsParams(regex="[^0-9]+"),
    "json_object": StructuredOutputsParams(json={}),
}
"""The structure that the mutated engine uses instead of one of each kind.

In the order of the keys: any JSON, any text, any word, any text without digits, any JSON.
"""


def compile_instead(
    patch: pytest.MonkeyPatch, change: Callable[[StructuredOutputsParams], StructuredOutputsParams]
) -> None:
    """Replace the structure of each request by the one that ``change`` returns, before the engine compiles it."""
    start = Grammars.start

    def changed(self: Grammars, params: StructuredOutputsParams) -> Grammar:
        return start(self, change(params))

    patch.setattr(Grammars, "start", changed)


def loosening(kind: str) -> Patch:
    """Return a patch that makes the engine allow more tokens than structures of this kind allow."""

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
