"""Logprobs of prompts over HTTP, through the official client: ``prompt_logprobs``, and ``echo`` with ``logprobs``."""

from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from engine.entrypoints.llm import LLM
from engine.request import SamplingParams
from tests.helpers.server_process import error_of

MODEL = "tiny-granite"
PROMPT = "Return the größte number of"


def complete(client: OpenAI, prompt: object = PROMPT, extra: object = None, **more: object) -> Any:
    fields: dict[str, Any] = {"model": MODEL, "prompt": prompt, "max_tokens": 5, "temperature": 0, **more}
    create: Any = client.completions.create
    return create(**fields, extra_body=extra)


def offline(llm: LLM, prompt: str = PROMPT, **params: Any) -> Any:
    wanted = SamplingParams(temperature=0, max_tokens=5, **params)
    (output,) = llm.generate(prompt, wanted, progress=False)
    return output


def test_prompt_logprobs_are_those_of_the_offline_engine(client: OpenAI, llm: LLM) -> None:
    wanted = offline(llm, prompt_logprobs=2).prompt_logprobs
    found = complete(client, extra={"prompt_logprobs": 2}).choices[0].prompt_logprobs
    assert found[0] is None
    assert len(found) == len(wanted)
    for here, there in zip(found[1:], wanted[1:], strict=True):
        assert {int(token): (entry["rank"], entry["decoded_token"]) for token, entry in here.items()} == {
            token: (entry.rank, entry.decoded_token) for token, entry in there.items()
        }
        assert [entry["logprob"] for entry in here.values()] == pytest.approx(
            [e.logprob for e in there.values()], abs=1e-4
        )


def test_a_chat_has_prompt_logprobs_too(client: OpenAI) -> None:
    messages = [{"role": "user", "content": "What is a list?"}]
    extra = {"prompt_logprobs": 0, "return_token_ids": True}
    create: Any = client.chat.completions.create
    reply = create(model=MODEL, messages=messages, max_tokens=3, extra_body=extra)
    tokens = reply.prompt_token_ids
    assert [None, *({str(token)} for token in tokens[1:])] == [p and set(p) for p in reply.prompt_logprobs]


def test_echo_with_logprobs_lists_the_prompt_before_the_answer(client: OpenAI, llm: LLM) -> None:
    prompt_tokens = llm.engine.tokenizer.encode(PROMPT)
    plain = complete(client, logprobs=3).choices[0]
    echoed = complete(client, logprobs=3, echo=True).choices[0]
    lists, count = echoed.logprobs, len(prompt_tokens)
    assert echoed.text == PROMPT + plain.text
    assert lists.tokens[count:] == plain.logprobs.tokens
    assert lists.token_logprobs[count:] == pytest.approx(plain.logprobs.token_logprobs, abs=1e-4)
    assert (lists.token_logprobs[0], lists.top_logprobs[0]) == (None, None)
    wanted = offline(llm, prompt_logprobs=3).prompt_logprobs
    own = [position[token].logprob for token, position in zip(prompt_tokens[1:], wanted[1:], strict=True)]
    assert lists.token_logprobs[1:count] == pytest.approx(own, abs=1e-4)
    # Tokens that are parts of a character have the same text, so a position may list fewer texts.
    assert all(1 <= len(top) <= 4 for top in lists.top_logprobs[1:])


def test_offsets_are_places_in_the_text_with_the_prompt(client: OpenAI) -> None:
    choice = complete(client, logprobs=0, echo=True).choices[0]
    offsets, tokens = choice.logprobs.text_offset, choice.logprobs.tokens
    assert offsets == sorted(offsets)
    for offset, token in zip(offsets, tokens, strict=True):
        if "\N{REPLACEMENT CHARACTER}" not in token:
            assert choice.text.startswith(token, offset)
    plain = complete(client, logprobs=0).choices[0]
    assert offsets[-5:] == [len(PROMPT) + offset for offset in plain.logprobs.text_offset]


def test_echo_without_tokens_to_generate_scores_the_prompt(client: OpenAI, llm: LLM) -> None:
    choice = complete(client, logprobs=1, echo=True, max_tokens=0).choices[0]
    assert choice.text == PROMPT
    assert len(choice.logprobs.tokens) == len(llm.engine.tokenizer.encode(PROMPT))
    assert complete(client, echo=True, max_tokens=0).choices[0].text == PROMPT


def test_a_stream_with_echo_and_logprobs_adds_up_to_the_whole(client: OpenAI) -> None:
    whole = complete(client, logprobs=2, echo=True).choices[0]
    chunks = [chunk.choices[0] for chunk in complete(client, logprobs=2, echo=True, stream=True)]
    assert "".join(chunk.text for chunk in chunks) == whole.text
    for name in ("tokens", "token_logprobs", "text_offset"):
        assert [item for chunk in chunks for item in getattr(chunk.logprobs, name)] == getattr(whole.logprobs, name)


def test_each_of_several_prompts_has_its_own(client: OpenAI, llm: LLM) -> None:
    prompts = ["This module", "Return the name", "a"]
    reply = complete(client, prompts, {"prompt_logprobs": 0}, logprobs=0, echo=True)
    for prompt, choice in zip(prompts, reply.choices, strict=True):
        tokens = llm.engine.tokenizer.encode(prompt)
        assert [p and set(p) for p in choice.prompt_logprobs] == [None, *({str(token)} for token in tokens[1:])]
        assert choice.text.startswith(prompt)


def test_what_is_kept_of_a_prompt_is_echoed(client: OpenAI) -> None:
    choice = complete(client, logprobs=0, echo=True, max_tokens=0, extra={"truncate_prompt_tokens": 3}).choices[0]
    assert len(choice.logprobs.tokens) == 3
    assert choice.text == "".join(choice.logprobs.tokens)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"prompt_logprobs": 21}, "less than or equal to 20"),
        ({"prompt_logprobs": -1}, "greater than or equal to 0"),
        ({"prompt_logprobs": 1, "stream": True}, "not available if stream is true"),
    ],
)
def test_what_is_refused(client: OpenAI, body: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequestError, match=says) as refused:
        complete(client, extra=body)
    assert error_of(refused.value)["param"] == "prompt_logprobs"
