"""Requests, and the constraints of structured outputs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

STRUCTURE_KINDS = ("json", "regex", "choice", "grammar", "json_object")


@dataclass(frozen=True)
class Structure:
    """A constraint that an answer must satisfy. ``kind`` is a parameter of vLLM's ``structured_outputs``.

    ``text`` is a JSON schema if ``kind`` is ``json``, a regular expression if it is ``regex``, a list of strings in
    JSON if it is ``choice``, and a grammar if it is ``grammar``. For ``json_object``, which allows any JSON object,
    ``text`` is ``true``.
    """

    kind: str
    text: str

    def arguments(self) -> dict[str, Any]:
        """Return the constraint in the form of vLLM's argument ``structured_outputs``."""
        return {self.kind: json.loads(self.text) if self.kind in ("choice", "json_object") else self.text}

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"


@dataclass(frozen=True)
class RequestSpec:
    """One request in the form that drivers take. ``request_id`` is the position of the request in its case.

    ``logprobs`` is the number of top tokens to return at each position. If ``golden_token_ids`` is not empty, a driver
    with the capability ``golden-tokens`` returns these tokens instead of sampled ones. ``simulated_token_ids`` are the
    tokens that a model would generate, for drivers that run no model. ``unchecked`` has sampling parameters by vLLM's
    names, with JSON values. They replace the fields of the same name, and their values may be invalid, to test that an
    engine refuses them.
    """

    request_id: int
    prompt_token_ids: tuple[int, ...]
    max_tokens: int
    ignore_eos: bool = True
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    logprobs: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    structured_outputs: Structure | None = None
    prompt_logprobs: int | None = None
    truncate_prompt_tokens: int | None = None
    golden_token_ids: tuple[int, ...] = ()
    simulated_token_ids: tuple[int, ...] = ()
    unchecked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def changes_logits(self) -> bool:
        """Return whether a penalty, ``logit_bias``, ``allowed_token_ids`` or ``bad_words`` changes the logits."""
        penalised = self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1
        return bool(penalised or self.logit_bias or self.allowed_token_ids is not None or self.bad_words)

    def truncated(self) -> "RequestSpec":
        """Return this request with only the last ``truncate_prompt_tokens`` tokens of its prompt, as in the engine.

        The value -1 means as many tokens as fit the context. All tokens are then kept, because prompts of cases with
        this value fit the context.
        """
        keep = self.truncate_prompt_tokens
        if keep is None:
            return self
        kept = self.prompt_token_ids if keep == -1 else self.prompt_token_ids[-keep:]
        return replace(self, prompt_token_ids=kept, truncate_prompt_tokens=None)

    def within(self, max_model_len: int | None) -> "RequestSpec":
        """Return this request with ``max_tokens`` reduced to what fits a context of ``max_model_len`` tokens.

        A sequence ends when prompt and generated tokens together fill the context (docs/scheduling-rules.md, "One
        step", 4). If the prompt alone fills the context, the sequence ends after its first token. With
        ``max_model_len`` None (not known) the request is returned unchanged.
        """
        room = self.max_tokens if max_model_len is None else max(1, max_model_len - len(self.prompt_token_ids))
        if self.max_tokens <= room:
            return self
        return replace(self, max_tokens=room, min_tokens=min(self.min_tokens, room))
