"""The request and response of ``POST /v1/completions``."""

from collections.abc import Iterable, Sequence

from engine.entrypoints.prompts import Admitted
from engine.entrypoints.server.job import Fields, Job, Service, start, tokens_in
from engine.entrypoints.server.logprob_lists import Echo, LogprobLists, prompt_list
from engine.entrypoints.server.requests import CompletionRequest
from engine.entrypoints.server.responses import CompletionChoice, CompletionResponse, Usage
from engine.entrypoints.server.sampling import completion_params
from engine.request import CompletionOutput
from engine.tokenizer import Tokenizer


async def begin(service: Service, body: CompletionRequest) -> Job:
    """Check a completion request and queue it. Return its Job, from which the response is created.

    Raises any error that ``completion_params`` (for the parameters) or ``start`` (for the prompts) raises.
    """
    params = completion_params(body)
    prompts = [await service.llm.encode(prompt) if isinstance(prompt, str) else prompt for prompt in _each(body.prompt)]
    return await start(service, "cmpl", prompts, params, Fields("prompt"))


def _each(prompt: str | list[str] | list[int] | list[list[int]]) -> list[str | tuple[int, ...]]:
    """Return the prompts of a body as a list. Each prompt is a string or a tuple of token ids."""
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
        self._echoes = [self._echo(index) for index in range(job.collector.count)]
        self._lists = [LogprobLists(tokenizer, skip_special_tokens=skip, echo=echo) for echo in self._echoes]
        self._begun: set[int] = set()

    def whole(self, outputs: Sequence[CompletionOutput]) -> CompletionResponse:
        choices = [self._choice(output, self._prompt_text(output.index) + self._text(output)) for output in outputs]
        return self._response(choices, self._job.usage(tokens_in(outputs)))

    def opening(self) -> Iterable[CompletionResponse]:
        """Return the chunks with the echoed prompts, one per answer.

        If logprobs are requested, return nothing: the logprobs of a prompt are known only after the prefill, so
        ``chunk`` then returns the prompt with the first token.
        """
        if not self._body.echo or self._body.logprobs is not None:
            return ()
        indices = range(self._job.collector.count)
        return [self._response([CompletionChoice(index=index, text=self._prompt_text(index))]) for index in indices]

    def chunk(self, delta: CompletionOutput) -> CompletionResponse:
        late = delta.index not in self._begun and self._body.logprobs is not None
        return self._response(
            [self._choice(delta, (self._prompt_text(delta.index) if late else "") + self._text(delta))]
        )

    def closing(self, usage: Usage) -> CompletionResponse:
        return self._response([], usage)

    def _text(self, output: CompletionOutput) -> str:
        return "" if self._body.echo_alone else output.text

    def _prompt_text(self, index: int) -> str:
        """Return the text of the prompt of answer ``index`` if ``echo`` is set, else an empty string."""
        echo = self._echoes[index]
        return "" if echo is None else echo.text

    def _echo(self, index: int) -> Echo | None:
        if not self._body.echo:
            return None
        token_ids = self._prompt(index).token_ids
        given = _each(self._body.prompt)[index // self._job.prompts[0].params.n]
        if isinstance(given, str) and self._body.truncate_prompt_tokens is None:
            return Echo(given, token_ids)
        return Echo(self._tokenizer.decode(token_ids, skip_special_tokens=False), token_ids)

    def _choice(self, output: CompletionOutput, text: str) -> CompletionChoice:
        index, ids = output.index, bool(self._body.return_token_ids)
        first = index not in self._begun
        self._begun.add(index)
        wanted = self._body.prompt_logprobs is not None
        return CompletionChoice(
            index=index,
            text=text,
            logprobs=self._lists[index].of(output, prompt_alone=self._body.echo_alone),
            finish_reason=output.finish_reason,
            stop_reason=output.stop_reason,
            token_ids=list(() if self._body.echo_alone else output.token_ids) if ids else None,
            prompt_token_ids=list(self._prompt(index).token_ids) if ids and first else None,
            prompt_logprobs=prompt_list(output.prompt_logprobs) if wanted else None,
        )

    def _prompt(self, index: int) -> Admitted:
        return self._job.prompt_of(index)

    def _response(self, choices: list[CompletionChoice], usage: Usage | None = None) -> CompletionResponse:
        job = self._job
        return CompletionResponse(id=job.id, created=job.created, model=job.model, choices=choices, usage=usage)
