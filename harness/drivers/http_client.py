"""A client of an OpenAI-compatible server. It uses the ``openai`` package, and httpx for requests in other formats.

Requests set ``return_token_ids``, a field that vLLM and the reference engine's server support. Without this field, the
client can't count tokens. Requests with ``echo`` don't set it, because vLLM 0.32 returns no text of the prompt if a
request sets both fields.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from harness.drivers.base import UnavailableError
from harness.drivers.client import (
    HTTP,
    RESTART,
    Answer,
    Choice,
    ClientError,
    ClientRequest,
    Logprobs,
    NoResponseError,
    RawAnswer,
    ServingState,
    StreamChunk,
)
from harness.drivers.servers import ServerProcess, StubbornServerError
from harness.types import RequestSpec, Structure
from harness.utils.extras import HTTP_CLIENT, why_missing

INJECTOR = "golden_token_injector"
"""The key in ``vllm_xargs`` for golden tokens: tokens that a request must generate, whatever the model's logits are.

The logits processors of the plugins and the server of the reference engine read it.
"""

SECONDS = 120
"""Timeout, in seconds, for connecting to the server and for each read from a connection."""

METRIC_NAMES = {
    "waiting": ("spyre_cb_requests_waiting", "vllm:num_requests_waiting"),
    "running": ("spyre_cb_requests_running", "vllm:num_requests_running"),
    "used_blocks": ("spyre_cb_blocks_used",),
    "reserved_blocks": ("spyre_cb_blocks_reserved",),
    "tkv": ("spyre_cb_tkv",),
}
COUNTERS = {
    "prompt_tokens": ("spyre_cb_prompt_tokens_total", "vllm:prompt_tokens_total"),
    "generated_tokens": ("spyre_cb_generation_tokens_total", "vllm:generation_tokens_total"),
    "finished_requests": ("spyre_cb_requests_finished_total", "vllm:request_success_total"),
    "aborted_requests": (
        "spyre_cb_requests_finished_total{finish_reason=abort}",
        "vllm:request_success_total{finished_reason=abort}",
    ),
    "first_tokens": ("spyre_cb_time_to_first_token_seconds_count", "vllm:time_to_first_token_seconds_count"),
    "prefix_queries": ("vllm:prefix_cache_queries_total",),
    "prefix_hits": ("vllm:prefix_cache_hits_total",),
    "preemptions": ("vllm:num_preemptions_total",),
    "pauses": ("spyre_cb_pauses_total",),
    "further_tokens": ("spyre_cb_inter_token_latency_seconds_count", "vllm:inter_token_latency_seconds_count"),
}
"""The names of each metric in ``/metrics``: first that of the reference server if it has the metric, then vLLM's."""


@cache
def _ssl_context(create: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Return ``create()``. The result is cached, because reading all certificates takes 30 ms."""
    return create()


LARGE_BODY = 100_000
"""Bytes of a body above which a lost response counts as a refusal without a status."""


class HttpClient:
    """A client of the server at ``url``. ``process`` is the server's process if the harness has started it.

    The constructor raises UnavailableError if a package is missing.
    """

    def __init__(
        self, url: str, model: str, *, api_key: str | None = None, process: ServerProcess | None = None
    ) -> None:
        if missing := why_missing(HTTP_CLIENT):
            raise UnavailableError(missing)
        import httpx
        import httpx2
        import openai

        # openai connects by httpx2, which is another package than httpx.
        self._openai, self._httpx, self._httpx2 = openai, httpx, httpx2
        self._url, self._model, self._key, self._process = url, model, api_key or "none", process
        self.capabilities = frozenset({HTTP} | ({RESTART} if process else set()))
        self._client: Any = None
        self._raw: Any = None
        self._closers: list[Any] = []

    @property
    def url(self) -> str:
        return self._url

    def _clients(self) -> tuple[Any, Any]:
        """Return (client of the ``openai`` package, client of httpx) for the current case. Create them if necessary.

        Both can be used only in the event loop of this case.
        """
        if self._client is None:
            limits = self._httpx.Limits(max_connections=None, max_keepalive_connections=0)
            contexts = [_ssl_context(package.create_ssl_context) for package in (self._httpx, self._httpx2)]
            self._raw = self._httpx.AsyncClient(base_url=self._url, timeout=SECONDS, limits=limits, verify=contexts[0])
            connections = self._openai.DefaultAsyncHttpxClient(verify=contexts[1])
            self._client = self._openai.AsyncOpenAI(
                base_url=f"{self._url}/v1",
                api_key=self._key,
                max_retries=0,
                timeout=SECONDS,
                http_client=connections,
            )
            self._closers += [self._client.close, self._raw.aclose]
        return self._client, self._raw

    async def complete(self, request: ClientRequest) -> Answer:
        client, _ = self._clients()
        try:
            if request.messages:
                reply = await client.chat.completions.create(**_chat(request, self._model))
            else:
                reply = await client.completions.create(**_completion(request, self._model))
        except self._openai.OpenAIError as error:
            raise _client_error(error) from error
        prompt = request.spec.truncated().prompt_token_ids
        return Answer(tuple(_with_prompt(choice, prompt) for choice in reply.choices), _usage(reply.usage))

    async def stream(self, request: ClientRequest) -> AsyncGenerator[StreamChunk, None]:
        client, _ = self._clients()
        more = {"stream": True, "stream_options": {"include_usage": True}}
        try:
            if request.messages:
                events = await client.chat.completions.create(**_chat(request, self._model), **more)
            else:
                events = await client.completions.create(**_completion(request, self._model), **more)
            async with events:
                async for event in events:
                    yield _chunk(event)
        except self._openai.OpenAIError as error:
            raise _client_error(error) from error

    async def generate(self, requests: Sequence[ClientRequest]) -> list[Answer]:
        return list(await asyncio.gather(*map(self.complete, requests)))

    async def abort(self, name: str) -> None:
        raise NotImplementedError("an HTTP client can't abort a request: close the stream to disconnect")

    async def call(self, method: str, path: str, content: Any) -> RawAnswer:
        client, _ = self._clients()
        below, body = path.removeprefix("/v1"), {} if method == "GET" else {"body": content}
        try:
            return _raw(await getattr(client, method.lower())(below, cast_to=self._httpx2.Response, **body))
        except self._openai.APIStatusError as error:
            return _raw(error.response)
        except self._openai.OpenAIError as error:
            raise _client_error(error) from error

    async def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> RawAnswer:
        _, raw = self._clients()
        try:
            return _raw(await raw.request(method, path, content=body or None, headers=dict(headers)))
        except self._httpx.HTTPError as error:
            # A server that refuses a large body closes the connection, and its response can be lost.
            kind = ClientError if len(body) > LARGE_BODY else NoResponseError
            raise kind(f"the server did not answer: {type(error).__name__}: {error}") from error

    async def state(self) -> ServingState:
        values = await self._metrics()
        return ServingState(**{name: _first(values, names) for name, names in METRIC_NAMES.items()})

    async def metrics(self) -> dict[str, int]:
        values = await self._metrics()
        found = {name: _first(values, names) for name, names in COUNTERS.items()}
        return {name: value for name, value in found.items() if value is not None}

    async def _metrics(self) -> dict[str, float]:
        """Return the values in ``/metrics``, with two kinds of keys: ``name`` and ``name{label=value}``.

        The value for ``name`` is the sum over all labels of this metric. The value for ``name{label=value}`` is the sum
        over the metric's samples with this label. Raises ClientError if the server does not answer.
        """
        from prometheus_client.parser import text_string_to_metric_families

        _, raw = self._clients()
        try:
            text = (await raw.get("/metrics", headers={"Authorization": f"Bearer {self._key}"})).text
        except self._httpx.HTTPError as error:
            raise ClientError(f"{self._url}/metrics does not answer: {type(error).__name__}") from error
        values: dict[str, float] = {}
        for sample in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
            labelled = [f"{sample.name}{{{label}={value}}}" for label, value in sample.labels.items()]
            for name in (sample.name, *labelled):
                values[name] = values.get(name, 0.0) + sample.value
        return values

    async def healthy(self) -> bool:
        _, raw = self._clients()
        try:
            return bool((await raw.get("/health")).status_code == 200)
        except self._httpx.HTTPError:
            return False

    async def restart(self, how: str) -> None:
        assert self._process is not None
        try:
            await asyncio.to_thread(self._process.restart, how)
        except StubbornServerError as error:
            raise ClientError(str(error)) from error
        finally:
            self._url = self._process.url
            # Keep the old clients until the end of the case, because streams from before the restart may still be read.
            self._client = self._raw = None

    async def leave(self) -> None:
        for close in self._closers:
            await close()
        self._closers.clear()
        self._client = self._raw = None

    def close(self) -> None:
        if self._process is not None:
            self._process.end()


def _first(values: Mapping[str, float], names: Sequence[str]) -> int | None:
    return next((int(values[name]) for name in names if name in values), None)


def _completion(request: ClientRequest, model: str) -> dict[str, Any]:
    spec = request.spec
    logprobs: dict[str, Any] = {"logprobs": request.logprobs} if request.logprobs is not None else {}
    logprobs |= {"echo": True} if request.echo else {}
    return {"prompt": list(spec.prompt_token_ids), **_common(request, model), **logprobs}


def _chat(request: ClientRequest, model: str) -> dict[str, Any]:
    common = _common(request, model)
    if form := _response_format(request.spec.structured_outputs):
        common["extra_body"].pop("structured_outputs")
        common["response_format"] = form
    return {"messages": [{"role": role, "content": text} for role, text in request.messages], **common}


def _response_format(structure: Structure | None) -> dict[str, Any] | None:
    """Convert a request's constraint for structured outputs to OpenAI's ``response_format``.

    Return None if there is no constraint, or if its kind can't be expressed as ``response_format``.
    """
    match structure and structure.arguments():
        case {"json_object": True}:
            return {"type": "json_object"}
        case {"json": schema}:
            return {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(schema)}}
    return None


def _common(request: ClientRequest, model: str) -> dict[str, Any]:
    spec = request.spec
    return {
        "model": request.model or model,
        "n": request.n,
        "max_tokens": spec.max_tokens,
        "temperature": spec.temperature,
        "top_p": spec.top_p,
        **({"presence_penalty": spec.presence_penalty} if spec.presence_penalty else {}),
        **({"frequency_penalty": spec.frequency_penalty} if spec.frequency_penalty else {}),
        **({"logit_bias": {str(token): bias for token, bias in spec.logit_bias}} if spec.logit_bias else {}),
        **({} if spec.seed is None else {"seed": spec.seed}),
        **({"stop": list(spec.stop)} if spec.stop else {}),
        "extra_body": {**({} if request.echo else {"return_token_ids": True}), **_extras(spec)},
    }


def _extras(spec: RequestSpec) -> dict[str, Any]:
    """Return the request's parameters that OpenAI's API does not have, for the argument ``extra_body`` of ``openai``.

    Parameters with their default value are left out. All parameters in ``spec.unchecked`` are included, even those that
    OpenAI's API has: a field of ``extra_body`` replaces the field of the same name in the body of the HTTP request.
    """
    wanted: dict[str, tuple[Any, Any]] = {
        "ignore_eos": (spec.ignore_eos, False),
        "top_k": (spec.top_k, 0),
        "min_p": (spec.min_p, 0.0),
        "min_tokens": (spec.min_tokens, 0),
        "stop_token_ids": (list(spec.stop_token_ids), []),
        "include_stop_str_in_output": (spec.include_stop_str_in_output, False),
        "skip_special_tokens": (spec.skip_special_tokens, True),
        "repetition_penalty": (spec.repetition_penalty, 1.0),
        "allowed_token_ids": (spec.allowed_token_ids and list(spec.allowed_token_ids), None),
        "bad_words": (list(spec.bad_words), []),
        "prompt_logprobs": (spec.prompt_logprobs, None),
        "truncate_prompt_tokens": (spec.truncate_prompt_tokens, None),
        "vllm_xargs": (_injected(spec), None),
        "structured_outputs": (spec.structured_outputs and spec.structured_outputs.arguments(), None),
    }
    return {name: value for name, (value, default) in wanted.items() if value != default} | dict(spec.unchecked)


def _injected(spec: RequestSpec) -> dict[str, str] | None:
    """Return the value of ``vllm_xargs`` with the request's golden tokens, None if it has no golden tokens.

    Golden tokens are tokens that a request must generate, whatever the model's logits are. The logits processors of the
    plugins read them from ``vllm_xargs``, as a JSON string.
    """
    if not spec.golden_token_ids:
        return None
    return {INJECTOR: json.dumps({"expected_token_ids": list(spec.golden_token_ids)})}


def _token_count(choice: Any) -> int | None:
    ids = (choice.model_extra or {}).get("token_ids")
    return None if ids is None else len(ids)


def _with_prompt(choice: Any, prompt: Sequence[int]) -> Choice:
    """Convert an answer of the ``openai`` package to a Choice with the logprobs of the tokens of the ``prompt``.

    The logprobs are in the field ``prompt_logprobs``, which vLLM adds to OpenAI's API. For each position of the prompt,
    the field has a dict whose keys are token ids. Without the field, the Choice has no logprobs of the prompt.
    """
    found = (choice.model_extra or {}).get("prompt_logprobs")
    if found is None:
        return _choice(choice)
    own = [at and at[str(token)]["logprob"] for at, token in zip(found, prompt, strict=False)]
    listed = (tuple(each["logprob"] for each in (at or {}).values()) for at in found)
    return replace(_choice(choice), prompt_logprobs=tuple(own), prompt_alternatives=tuple(listed))


def _choice(choice: Any) -> Choice:
    if hasattr(choice, "message"):
        return Choice(choice.message.content or "", _token_count(choice), choice.finish_reason)
    given = choice.logprobs
    if given is None:
        return Choice(choice.text, _token_count(choice), choice.finish_reason)
    return Choice(choice.text, _token_count(choice), choice.finish_reason, *_logprobs(given))


def _chunk(event: Any) -> StreamChunk:
    texts, tokens, reasons = {}, {}, {}
    logprobs: dict[int, Logprobs] = {}
    for choice in event.choices:
        text = choice.delta.content if hasattr(choice, "delta") else choice.text
        if not hasattr(choice, "delta") and choice.logprobs is not None:
            logprobs[choice.index] = _logprobs(choice.logprobs)
        texts[choice.index] = text or ""
        tokens[choice.index] = _token_count(choice) or 0
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason
    return StreamChunk(texts, tokens, reasons, _usage(event.usage), logprobs)


def _logprobs(given: Any) -> Logprobs:
    # The list of alternatives always includes the chosen token, even if it is not one of the top tokens.
    listed = (tuple((top or {}).values()) for top in given.top_logprobs or ())
    return Logprobs(tuple(given.token_logprobs or ()), tuple(listed))


def _usage(usage: Any) -> tuple[int, int] | None:
    return None if usage is None else (usage.prompt_tokens, usage.completion_tokens)


def _client_error(error: Any) -> ClientError:
    """Convert an exception of the ``openai`` package to a ClientError.

    Its message is the server's error message or, if the connection broke, the message of the exception and its cause.
    """
    body = error.body if isinstance(getattr(error, "body", None), dict) else {}
    status = getattr(error, "status_code", None)
    message = body.get("message") or (str(error) if status is None else error.message)
    if status is None and not body:
        return NoResponseError(f"{message}: {error.__cause__}" if error.__cause__ else message)
    return ClientError(message, status, body.get("type"), body.get("param"))


def _raw(reply: Any) -> RawAnswer:
    """Convert a response of httpx or httpx2 to a RawAnswer."""
    headers = {name.lower(): value for name, value in reply.headers.items()}
    return RawAnswer(reply.status_code, reply.text, _error_object(reply.text), headers)


def _error_object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    error = data.get("error") if isinstance(data, dict) else None
    return error if isinstance(error, dict) else {}
