"""Mutations of single sampling parameters.

For each parameter, one mutation ignores it. If a parameter has bounds, another mutation accepts values beyond them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from engine import request as requests
from engine.entrypoints import prompts
from engine.request import SamplingParams
from engine.tokenizer import Tokenizer
from tests.harness.mutations.ends import change_params
from tests.harness.mutations.registry import Patch, end_mutation

CASES = {
    "presence_penalty": "presence-penalty-at-and-beyond-its-bounds",
    "frequency_penalty": "frequency-penalty-at-and-beyond-its-bounds",
    "repetition_penalty": "repetition-penalty-at-and-beyond-its-bound",
    "logit_bias": "logit-bias-at-and-beyond-its-bounds",
    "allowed_token_ids": "allowed-token-ids-at-and-beyond-their-bounds",
    "bad_words": "bad-words-at-and-beyond-their-bound",
    "prompt_logprobs": "prompt-logprobs-at-and-beyond-their-bounds",
    "logprobs": "logprobs-at-and-beyond-their-bounds",
    "truncate_prompt_tokens": "truncated-prompts-at-and-beyond-their-bounds",
    "include_stop_str_in_output": "the-stop-string-in-the-text-or-not",
    "skip_special_tokens": "special-tokens-in-the-text-or-not",
}
"""The case that must detect the mutations of each parameter. It uses no other parameter of this mapping."""
ACCEPTED = {
    "temperature": "temperature-at-and-beyond-its-bound",
    "top_k": "top-k-at-and-beyond-its-bound",
    "top_p": "top-p-at-and-beyond-its-bounds",
    "min_p": "min-p-at-and-beyond-its-bounds",
    "seed": "a-seed-at-and-beyond-its-bounds",
    "min_tokens": "min-tokens-at-and-beyond-its-bounds",
    "stop": "stop-strings-without-a-character",
}
"""The case that must detect an engine that accepts any value of the parameter. Other cases detect if it is ignored."""

VOCABULARY = 2048
"""The size of the built-in model's vocabulary."""
WITH_BOUNDS = tuple(name for name in CASES if name not in ("include_stop_str_in_output", "skip_special_tokens"))


def _default(name: str) -> Any:
    return SamplingParams.__dataclass_fields__[name].default


def _without(name: str) -> Callable[[SamplingParams], SamplingParams]:
    changed = {"bad_words": "bad_words_token_ids"}.get(name, name)
    return lambda params: replace(params, **{changed: _default(changed)})


def ignoring(name: str) -> Patch:
    """Return a patch that makes the engine ignore the parameter ``name``: every request has the default value."""

    def patch_it(patch: pytest.MonkeyPatch) -> None:
        if name == "truncate_prompt_tokens":
            patch.setattr(prompts, "truncated", lambda token_ids, *_, **__: token_ids)
        elif name == "skip_special_tokens":
            decode = Tokenizer.decode
            patch.setattr(Tokenizer, "decode", lambda self, ids, **_: decode(self, ids, skip_special_tokens=True))
        else:
            change_params(patch, _without(name))

    patch_it.__name__ = f"ignore_{name}"
    patch_it.__module__ = __name__
    return patch_it


def accepting(name: str) -> Patch:
    """Return a patch that makes the engine accept values of the parameter ``name`` beyond its bounds, and ignore them.

    For example, token ids outside the vocabulary are left out.
    """

    def patch_it(patch: pytest.MonkeyPatch) -> None:
        require, check, truncated = requests._require, prompts._check_vocabulary, prompts.truncated

        def lax(holds: bool, rule: str, value: object) -> None:
            require(holds or rule.split()[0] == name, rule, value)

        def lax_ids(what: str, token_ids: Sequence[int], size: int, field: str | None) -> None:
            check(what, () if field == name else token_ids, size, field)

        def lax_length(token_ids: tuple[int, ...], params: SamplingParams, most: int, *, padded: bool) -> Any:
            known = -1 <= (params.truncate_prompt_tokens or -2) <= most
            return truncated(token_ids, params, most, padded=padded) if known else token_ids

        patch.setattr(requests, "_require", lax)
        patch.setattr(prompts, "_check_vocabulary", lax_ids)
        if name == "truncate_prompt_tokens":
            patch.setattr(prompts, "truncated", lax_length)
        if name == "bad_words":
            with_words = prompts.with_bad_words
            patch.setattr(
                prompts,
                "with_bad_words",
                lambda params, tokenizer: with_words(
                    replace(params, bad_words=tuple(filter(str.strip, params.bad_words))), tokenizer
                ),
            )
        change_params(patch, _computable)

    patch_it.__name__ = f"accept_{name}_beyond_its_bounds"
    patch_it.__module__ = __name__
    return patch_it


def _computable(params: SamplingParams) -> SamplingParams:
    allowed = params.allowed_token_ids
    inside = None if allowed is None else tuple(token for token in allowed if 0 <= token < VOCABULARY)
    biases = tuple((token, bias) for token, bias in params.biases if 0 <= token < VOCABULARY)
    return replace(
        params,
        logit_bias=biases,
        allowed_token_ids=inside or None,
        logprobs=_at_least_0(params.logprobs),
        prompt_logprobs=_at_least_0(params.prompt_logprobs),
    )


def _at_least_0(count: int | None) -> int | None:
    return None if count is None else max(0, count)


IGNORED = {
    "logprobs": "logprobs, expected",
    "prompt_logprobs": "logprobs, expected",
    "include_stop_str_in_output": "expected ' pixels of the width'",
}
for _name, _case in CASES.items():
    end_mutation(_case, IGNORED.get(_name, "Hugging Face's is"))(ignoring(_name))
for _name in WITH_BOUNDS:
    end_mutation(CASES[_name], "expected an error")(accepting(_name))
for _name, _case in ACCEPTED.items():
    end_mutation(_case, "expected an error")(accepting(_name))


@end_mutation("truncated-prompts-at-and-beyond-their-bounds", "Hugging Face's is")
def keep_the_first_tokens_of_a_truncated_prompt(patch: pytest.MonkeyPatch) -> None:
    truncated = prompts.truncated

    def first(token_ids: tuple[int, ...], *arguments: object, **more: object) -> tuple[int, ...]:
        return token_ids[: len(truncated(token_ids, *arguments, **more))]  # type: ignore[arg-type]

    patch.setattr(prompts, "truncated", first)


@end_mutation("logit-bias-at-and-beyond-its-bounds", "but those of clamped are")
def do_not_clamp_a_bias(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(requests, "MAX_BIAS", 1e9)
