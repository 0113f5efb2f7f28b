"""Select the requests of a case whose outputs are compared with those of Hugging Face."""

from collections.abc import Iterator
from dataclasses import replace

from harness.suites.prompts import Vocabulary, request_spec
from harness.suites.schema import BehaviourCase, Call, Case, Chat, OutputCase, StepsCase
from harness.suites.schema.structured import StructuredOutputs
from harness.types import RequestSpec

CHAT_TOKENS = 16
"""Default of ``max_tokens`` for the requests of ``chat`` actions."""


def chat_spec(chat: Chat, vocabulary: Vocabulary) -> RequestSpec:
    """Convert a ``chat`` action to a request whose prompt is rendered by the model's chat template.

    Raises ValueError if the model has no chat template.
    """
    prompt = vocabulary.chat([{"role": m.role, "content": m.content} for m in chat.messages])
    max_tokens = chat.max_tokens or CHAT_TOKENS
    return RequestSpec(
        0,
        prompt,
        max_tokens,
        temperature=chat.temperature,
        seed=chat.seed,
        ignore_eos=chat.ignore_eos,
        structured_outputs=StructuredOutputs.of(chat.structured_outputs),
    )


def specs_with_reference(case: Case, vocabulary: Vocabulary) -> Iterator[RequestSpec]:
    """Yield the requests of a case whose outputs are compared with the reference.

    Raises ValueError if the model's tokenizer can't produce a prompt, for example if a prompt has no tokens.
    """
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
                spec = request_spec(call, case.id, position, vocabulary)
                yield with_echoed_logprobs(spec, call.logprobs) if isinstance(call, Call) and call.echo else spec
            position += action.flood.clients if action.flood is not None else 1


def with_echoed_logprobs(spec: RequestSpec, logprobs: int | None) -> RequestSpec:
    """Return the request for which to compute the reference of ``spec``, a request with ``echo``.

    The answer to a request with ``echo`` and ``logprobs`` also has the logprobs of the prompt's tokens. Therefore, if
    ``logprobs`` is not None, the returned request also has ``prompt_logprobs``. Otherwise ``spec`` is returned.
    """
    return spec if logprobs is None else replace(spec, prompt_logprobs=logprobs)


def has_reference(case: Case) -> bool:
    """Return whether the output of at least one request of the case is compared with the reference."""
    if isinstance(case, BehaviourCase):
        return any(action.compared for action in case.actions)
    return getattr(case, "expect", None) is not None and case.expect.output == "reference"  # type: ignore[attr-defined]
