"""Convert the prompts of a case to token ids, and the requests of a case to the form that drivers take.

Random prompts depend only on the id of the case and the position of the request, so they are the same in every run.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, cycle, islice
from typing import Any

from checkpoints import Checkpoint, load_tokenizer, resolve
from harness.suites.schema import Prompt, Request
from harness.suites.schema.structured import StructuredOutputs
from harness.types import RequestSpec


@dataclass(frozen=True)
class Vocabulary:
    """A model's tokenizer, and its sets of token ids.

    ``encode`` converts a text to token ids and adds the special tokens that the tokenizer adds to a prompt;
    ``encode_plain`` adds none. ``chat`` renders a conversation with the model's chat template, including the generation
    prompt, and encodes it. A conversation is a list of messages with ``role`` and ``content``. ``decode`` converts
    token ids to text with special tokens. ``visible`` does so without special tokens, which gives the text in which
    stop strings are searched. ``ordinary`` are the ids of tokens that are not special, and ``special`` the ids of
    special tokens. ``size`` is the number of tokens in the vocabulary.
    """

    encode: Callable[[str], tuple[int, ...]]
    decode: Callable[[tuple[int, ...]], str]
    visible: Callable[[tuple[int, ...]], str]
    ordinary: tuple[int, ...]
    size: int
    eos_token_ids: frozenset[int]
    special: tuple[int, ...] = ()
    encode_plain: Callable[[str], tuple[int, ...]] = lambda text: ()  # noqa: ARG005
    chat: Callable[[list[dict[str, str]]], tuple[int, ...]] = lambda messages: ()  # noqa: ARG005


@lru_cache(maxsize=8)
def model_of_run(name: str) -> Checkpoint:
    """Return the checkpoint of a model. Raises CheckpointError if there is no valid checkpoint with this name.

    The result is cached, because every test needs it and checking the files of a model takes time.
    """
    return resolve(name)


@lru_cache(maxsize=8)
def vocabulary_of(checkpoint: Checkpoint) -> Vocabulary:
    """Load the tokenizer and the configuration of a checkpoint, and return its vocabulary. The result is cached.

    Raises CheckpointError if transformers cannot load the tokenizer.
    """
    tokenizer: Any = load_tokenizer(checkpoint.path)
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return Vocabulary(
        encode=lambda text: tuple(tokenizer(text)["input_ids"]),
        encode_plain=lambda text: tuple(tokenizer(text, add_special_tokens=False)["input_ids"]),
        decode=lambda ids: str(tokenizer.decode(list(ids))),
        visible=lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)),
        ordinary=tuple(i for i in range(len(tokenizer)) if i not in special),
        size=len(tokenizer),
        eos_token_ids=_eos_token_ids(checkpoint),
        special=tuple(sorted(special)),
        chat=lambda messages: tuple(
            tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        ),
    )


def _eos_token_ids(checkpoint: Checkpoint) -> frozenset[int]:
    """Return the EOS token ids, from generation_config.json if the checkpoint has one, else from config.json."""
    from transformers import AutoConfig, GenerationConfig

    eos: Any = None
    if (checkpoint.path / "generation_config.json").is_file():
        eos = GenerationConfig.from_pretrained(checkpoint.path).eos_token_id
    if eos is None:
        eos = AutoConfig.from_pretrained(checkpoint.path).eos_token_id
    return frozenset([eos] if isinstance(eos, int) else eos or ())


def prompt_token_ids(prompt: Prompt, case_id: str, position: int, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Return the token ids of a prompt. ``position`` is the position of its request in the case.

    Raises ValueError if a token id is not in the vocabulary, or if the prompt has no tokens.
    """
    try:
        return _token_ids(prompt, f"{case_id}/{position}", vocabulary)
    except ValueError as error:
        raise ValueError(f"request {position}: {error}") from error


def _token_ids(prompt: Prompt, name: str, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Return the token ids of a prompt. ``name`` is the seed of random tokens if the prompt has no key ``seed``."""
    if prompt.random_tokens is not None:
        source = random.Random(prompt.seed or name)
        return tuple(source.choice(vocabulary.ordinary) for _ in range(prompt.random_tokens))
    if prompt.parts is not None:
        parts = [_token_ids(part, f"{name}/{i}", vocabulary) for i, part in enumerate(prompt.parts)]
        return _as_long(tuple(chain.from_iterable(parts)), prompt.tokens)
    return _as_long(_given(prompt, vocabulary), prompt.tokens)


def _given(prompt: Prompt, vocabulary: Vocabulary) -> tuple[int, ...]:
    if prompt.plain_text is not None:
        return vocabulary.encode(prompt.plain_text)
    if prompt.special_tokens is not None:
        return vocabulary.special
    unknown = [token for token in prompt.token_ids or () if token >= vocabulary.size]
    if unknown:
        raise ValueError(f"token id {unknown[0]} is not in the model's vocabulary of {vocabulary.size} tokens")
    return prompt.token_ids or ()


def _as_long(token_ids: tuple[int, ...], length: int | None) -> tuple[int, ...]:
    """Repeat or cut ``token_ids`` to ``length`` token ids. If ``length`` is None, return them unchanged."""
    if not token_ids:
        raise ValueError("the prompt has no tokens")
    return token_ids if length is None else tuple(islice(cycle(token_ids), length))


def request_spec(request: Request, case_id: str, position: int, vocabulary: Vocabulary) -> RequestSpec:
    """Convert a request of a case to the form that drivers take.

    ``position`` is the position of the request in the case. Raises ValueError if the prompt has no tokens, or if the
    prompt, ``logit_bias`` or ``allowed_token_ids`` has a token id that is not in the vocabulary.
    """
    for name, token_ids in (("logit_bias", request.logit_bias), ("allowed_token_ids", request.allowed_token_ids or ())):
        if outside := [token_id for token_id in token_ids if token_id >= vocabulary.size]:
            raise ValueError(
                f"{name}: token id {outside[0]} is not in the model's vocabulary of {vocabulary.size} tokens"
            )
    return RequestSpec(
        request_id=position,
        prompt_token_ids=prompt_token_ids(request.prompt, case_id, position, vocabulary),
        max_tokens=request.max_tokens,
        ignore_eos=request.ignore_eos,
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        min_p=request.min_p,
        seed=request.seed,
        min_tokens=request.min_tokens,
        stop=request.stop,
        stop_token_ids=request.stop_token_ids,
        include_stop_str_in_output=request.include_stop_str_in_output,
        skip_special_tokens=request.skip_special_tokens,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=request.repetition_penalty,
        logit_bias=tuple(sorted(request.logit_bias.items())),
        allowed_token_ids=request.allowed_token_ids,
        bad_words=request.bad_words,
        structured_outputs=StructuredOutputs.of(request.structured_outputs),
        logprobs=request.logprobs or 0,
        prompt_logprobs=request.prompt_logprobs,
        truncate_prompt_tokens=request.truncate_prompt_tokens,
        unchecked=request.unchecked,
    )


def simulated_spec(request: Request, case_id: str, position: int, vocabulary: Vocabulary) -> RequestSpec:
    """Convert a request for a driver that runs no model, but needs prompt tokens, for example for prefix caching.

    The driver returns ``simulated_token_ids`` of the result as the generated tokens of the request.
    """
    spec = request_spec(request, case_id, position, vocabulary)
    return replace(spec, structured_outputs=None, simulated_token_ids=request.simulated_tokens)


def nameless_spec(request: Request, position: int, vocabulary: Vocabulary | None = None) -> RequestSpec:
    """Convert a request for a driver that runs no model and needs no prompt tokens.

    The prompt of the result has the right length, but all its token ids are 0. The length of a text prompt depends on a
    tokenizer. Raises ValueError for a text prompt if ``vocabulary`` is None.
    """
    length = request.prompt.length
    if length is None and vocabulary is None:
        raise ValueError("the length of a text prompt is not known without a tokenizer: use random_tokens or token_ids")
    if length is None and vocabulary is not None:
        length = len(prompt_token_ids(request.prompt, "", position, vocabulary))
    return RequestSpec(
        position,
        (0,) * (length or 0),
        request.max_tokens,
        ignore_eos=request.ignore_eos,
        min_tokens=request.min_tokens,
        stop=request.stop,
        stop_token_ids=request.stop_token_ids,
        include_stop_str_in_output=request.include_stop_str_in_output,
        skip_special_tokens=request.skip_special_tokens,
        simulated_token_ids=request.simulated_tokens,
    )
