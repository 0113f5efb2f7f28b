"""The request and response of ``POST /v1/completions``."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from engine.entrypoints.prompts import Admitted
from engine.entrypoints.server.forms import for_json
from engine.entrypoints.server.job import Fields, Job, Service, start, tokens_in
from engine.entrypoints.server.requests import CompletionRequest
from engine.entrypoints.server.responses import CompletionChoice, CompletionLogprobs, CompletionResponse, Usage
from engine.entrypoints.server.sampling import completion_params
from engine.request import CompletionOutput, Logprob
from engine.sequence import TextStream
from engine.tokenizer import Tokenizer


async def begin(service: Service, body: CompletionRequest) -> Job:
    """Check a request and queue it. Raises ApiError, and the errors of ``start`` and ``completion_params``."""
    params = completion_params(body)
    prompts = [await service.llm.encode(prompt) if isinstance(prompt, str) else prompt for prompt in _each(body.prompt)]
    return await start(service, "cmpl", prompts, params, Fields("prompt"))


def _each(prompt: str | list[str] | list[int] | list[list[int]]) -> list[str | tuple[int, ...]]:
    """Return the prompts of a body as a list; each is a text or token ids."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [tuple(token for token in prompt if isinstance(token, int))]
    return [tuple(item) if isinstance(item, list) else str(item) for item in prompt]


class CompletionForm:
    """The response format of the completions API (forms.Form)."""

    def __init__(self, job: Job, body: CompletionRequest, tokenizer: Tokenizer) -> None:
        self._job = job
        self._body = body
        self._tokenizer = tokenizer
        skip = body.skip_special_tokens is not False
        self._offsets = {index: TextOffsets(tokenizer, skip) for index in range(job.collector.count)}
        self._begun: set[int] = set()

    def whole(self, outputs: Sequence[CompletionOutput]) -> CompletionResponse:
        choices = [self._choice(output, self._echo(output.index) + output.text) for output in outputs]
        return self._response(choices, self._job.usage(tokens_in(outputs)))

    def opening(self) -> Iterable[CompletionResponse]:
        if not self._body.echo:
            return ()
        indices = range(self._job.collector.count)
        return [self._response([CompletionChoice(index=index, text=self._echo(index))]) for index in indices]

    def chunk(self, delta: CompletionOutput) -> CompletionResponse:
        return self._response([self._choice(delta, delta.text)])

    def closing(self, usage: Usage) -> CompletionResponse:
        return self._response([], usage)

    def _echo(self, index: int) -> str:
        """Return the text of the prompt if ``echo`` is set, else an empty text."""
        if not self._body.echo:
            return ""
        given = _each(self._body.prompt)[index // self._job.prompts[0].params.n]
        return given if isinstance(given, str) else self._tokenizer.decode(given, skip_special_tokens=False)

    def _choice(self, output: CompletionOutput, text: str) -> CompletionChoice:
        index, ids = output.index, bool(self._body.return_token_ids)
        first = index not in self._begun
        self._begun.add(index)
        return CompletionChoice(
            index=index,
            text=text,
            logprobs=self._logprobs(output),
            finish_reason=output.finish_reason,
            stop_reason=output.stop_reason,
            token_ids=list(output.token_ids) if ids else None,
            prompt_token_ids=list(self._prompt(index).token_ids) if ids and first else None,
        )

    def _prompt(self, index: int) -> Admitted:
        return self._job.prompt_of(index)

    def _logprobs(self, output: CompletionOutput) -> CompletionLogprobs | None:
        if output.logprobs is None:
            return None
        chosen = [position[token] for token, position in zip(output.token_ids, output.logprobs, strict=True)]
        return CompletionLogprobs(
            tokens=[entry.decoded_token for entry in chosen],
            token_logprobs=[for_json(entry.logprob) for entry in chosen],
            top_logprobs=[_by_text(position) for position in output.logprobs],
            text_offset=[self._offsets[output.index].next(token) for token in output.token_ids],
        )

    def _response(self, choices: list[CompletionChoice], usage: Usage | None = None) -> CompletionResponse:
        job = self._job
        return CompletionResponse(id=job.id, created=job.created, model=job.model, choices=choices, usage=usage)


class TextOffsets:
    """The offset of each token in the text of an answer.

    Offsets are computed from the decoded text, because a character may take several tokens.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool) -> None:
        self._stream = TextStream(partial(tokenizer.decode, skip_special_tokens=skip_special_tokens))

    def next(self, token_id: int) -> int:
        """Add a token and return its offset in the text, in characters."""
        offset = len(self._stream.text)
        self._stream.push(token_id)
        return offset


def _by_text(position: Mapping[int, Logprob]) -> dict[str, float]:
    """Return the logprobs of one position by the text of the token.

    Tokens that are parts of a character can have the same text: then the logprob of the most likely one is returned.
    """
    texts: dict[str, float] = {}
    for entry in position.values():
        texts.setdefault(entry.decoded_token, for_json(entry.logprob))
    return texts
