"""The request and response of ``POST /v1/chat/completions``."""

from collections.abc import Iterable, Sequence

from engine.entrypoints.server.errors import bad_request
from engine.entrypoints.server.forms import for_json
from engine.entrypoints.server.job import Fields, Job, Service, start, tokens_in
from engine.entrypoints.server.logprob_lists import prompt_list
from engine.entrypoints.server.requests import ChatRequest, Message
from engine.entrypoints.server.responses import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    ChatResponse,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from engine.entrypoints.server.sampling import budget_field, chat_params
from engine.request import CompletionOutput, Logprob
from engine.tokenizer import ChatTemplateError


async def begin(service: Service, body: ChatRequest) -> Job:
    """Check a chat request and queue it. Return its Job, from which the response is created.

    Raises ApiError if the chat template rejects the messages, and any error that ``chat_params`` (for the parameters)
    or ``start`` (for the prompt) raises.
    """
    params = chat_params(body)
    try:
        token_ids = await service.llm.encode_chat([_for_template(message) for message in body.messages])
    except ChatTemplateError as error:
        raise bad_request(str(error), "messages") from error
    return await start(service, "chatcmpl", [token_ids], params, Fields("messages", budget_field(body)))


def _for_template(message: Message) -> dict[str, str]:
    name = {} if message.name is None else {"name": message.name}
    return {"role": message.role, "content": message.text, **name}


class ChatForm:
    """The response format of the chat API (forms.Form)."""

    def __init__(self, job: Job, body: ChatRequest) -> None:
        self._job = job
        self._token_ids = bool(body.return_token_ids)
        self._top = body.top_logprobs or 0

    def whole(self, outputs: Sequence[CompletionOutput]) -> ChatResponse:
        job = self._job
        return ChatResponse(
            id=job.id,
            created=job.created,
            model=job.model,
            choices=[self._choice(output) for output in outputs],
            usage=job.usage(tokens_in(outputs)),
            prompt_token_ids=self._prompt(),
            prompt_logprobs=prompt_list(outputs[0].prompt_logprobs),
        )

    def opening(self) -> Iterable[ChatChunk]:
        delta = ChatDelta(role="assistant", content="")
        first = [ChatChunkChoice(index=index, delta=delta) for index in range(self._job.collector.count)]
        return [self._chunk([choice], prompt=self._prompt()) for choice in first]

    def chunk(self, delta: CompletionOutput) -> ChatChunk:
        choice = ChatChunkChoice(
            index=delta.index,
            delta=ChatDelta(content=delta.text),
            logprobs=_logprobs(delta, self._top),
            finish_reason=delta.finish_reason,
            stop_reason=delta.stop_reason,
            token_ids=list(delta.token_ids) if self._token_ids else None,
        )
        return self._chunk([choice])

    def closing(self, usage: Usage) -> ChatChunk:
        return self._chunk([], usage)

    def _choice(self, output: CompletionOutput) -> ChatChoice:
        return ChatChoice(
            index=output.index,
            message=ChatMessage(content=output.text),
            logprobs=_logprobs(output, self._top),
            finish_reason=output.finish_reason,
            stop_reason=output.stop_reason,
            token_ids=list(output.token_ids) if self._token_ids else None,
        )

    def _prompt(self) -> list[int] | None:
        return list(self._job.prompts[0].token_ids) if self._token_ids else None

    def _chunk(
        self, choices: list[ChatChunkChoice], usage: Usage | None = None, prompt: list[int] | None = None
    ) -> ChatChunk:
        job = self._job
        return ChatChunk(
            id=job.id, created=job.created, model=job.model, choices=choices, usage=usage, prompt_token_ids=prompt
        )


def _logprobs(output: CompletionOutput, top: int) -> ChatLogprobs | None:
    """Return the logprobs of the chosen tokens, each with the ``top`` most likely tokens at its position.

    The most likely token comes first. The chosen token need not be among the most likely tokens.
    """
    if output.logprobs is None:
        return None
    content = []
    for token_id, position in zip(output.token_ids, output.logprobs, strict=True):
        own = _entry(position[token_id])
        alternatives = [_entry(entry) for entry in list(position.values())[:top]]
        content.append(TokenLogprob(**own.model_dump(), top_logprobs=alternatives))
    return ChatLogprobs(content=content)


def _entry(entry: Logprob) -> TopLogprob:
    text = entry.decoded_token
    return TopLogprob(token=text, logprob=for_json(entry.logprob), bytes=list(text.encode()))
