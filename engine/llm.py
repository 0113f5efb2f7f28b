"""The offline front door: a list of prompts in, a list of outputs out, in the same order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from engine.build import Engine, build_engine
from engine.config import EngineConfig, Limits
from engine.core import StepRecord
from engine.front_door import RequestRefusedError, admit
from engine.request import CompletionOutput, Logprob, Request, RequestOutput, SamplingParams
from engine.sequence import SequenceState

Prompt = str | Mapping[str, Sequence[int]]
"""A text, or ``{"prompt_token_ids": [...]}``."""


class LLM:
    """An engine with ``generate``. Keyword arguments are EngineConfig's.

    Raises ConfigError and CheckpointError.
    """

    def __init__(self, model: str = "tiny-granite", **config: Any) -> None:
        self.engine: Engine = build_engine(EngineConfig(model=model, **config))
        self.requests_made = 0

    def reset(self, limits: Limits) -> None:
        """Forget every request and tighten (or widen again) the limits; see EngineCore.reset."""
        self.engine.core.reset(limits)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool = True,
        on_step: Callable[[StepRecord], None] | None = None,
    ) -> list[RequestOutput]:
        """Run all prompts to their end. ``on_step`` sees the record of every step as it happens.

        Raises RequestRefusedError, before anything runs, where a prompt and its budget exceed the context, and
        ValueError where prompts and parameters are not equally many.
        """
        wanted = [prompts] if isinstance(prompts, str | Mapping) else list(prompts)
        params = _one_each(SamplingParams() if sampling_params is None else sampling_params, len(wanted))
        groups = [self._requests(prompt, p) for prompt, p in zip(wanted, params, strict=True)]
        try:
            for group in groups:
                for request in group:
                    self.engine.core.add_request(request)
            self._run(groups, progress, on_step)
        except BaseException:
            self._forget(groups)
            raise
        return [self._output(prompt, group) for prompt, group in zip(wanted, groups, strict=True)]

    def _requests(self, prompt: Prompt, params: SamplingParams) -> list[Request]:
        """The ``n`` requests of one prompt, checked."""
        tokenizer = self.engine.tokenizer
        token_ids = tokenizer.encode(prompt) if isinstance(prompt, str) else tuple(prompt["prompt_token_ids"])
        bad = [token for token in token_ids if not 0 <= token < tokenizer.vocabulary_size]
        if bad:
            raise RequestRefusedError(
                f"Could not add request: token id {bad[0]} is outside the vocabulary of {tokenizer.vocabulary_size}."
            )
        params = admit(len(token_ids), params, self.engine.core.limits.max_model_len)
        number = self.requests_made
        self.requests_made += 1
        return [
            Request(str(number) if params.n == 1 else f"{number}-{index}", token_ids, _sample_params(params, index))
            for index in range(params.n)
        ]

    def _run(self, groups: list[list[Request]], progress: bool, on_step: Callable[[StepRecord], None] | None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        core = self.engine.core
        with Progress(*columns, TextColumn("{task.fields[speed]}"), transient=True, disable=not progress) as bar:
            task = bar.add_task("prompts", total=sum(map(len, groups)), speed="")
            tokens = 0
            while core.has_work:
                record = core.step()
                if on_step:
                    on_step(record)
                tokens += len(record.tokens)
                elapsed = bar.tasks[0].elapsed or 0
                speed = f"{tokens / elapsed:.0f} tokens/s" if elapsed else ""
                bar.update(task, advance=len(record.finished_requests), speed=speed)

    def _forget(self, groups: list[list[Request]]) -> None:
        """Leave nothing of a run that broke off for the next one to run."""
        core = self.engine.core
        for request in chain.from_iterable(groups):
            if request.request_id in core.sequences:
                core.abort(request.request_id)
                core.release(request.request_id)

    def _output(self, prompt: Prompt, group: list[Request]) -> RequestOutput:
        outputs = [
            self._completion(index, self.engine.core.release(request.request_id)) for index, request in enumerate(group)
        ]
        return RequestOutput(
            request_id=group[0].request_id.split("-")[0],
            prompt=prompt if isinstance(prompt, str) else None,
            prompt_token_ids=group[0].prompt_token_ids,
            outputs=tuple(outputs),
            finished=True,
        )

    def _completion(self, index: int, sequence: SequenceState) -> CompletionOutput:
        skip = sequence.params.skip_special_tokens

        def decode(token_ids: Sequence[int]) -> str:
            return self.engine.tokenizer.decode(token_ids, skip_special_tokens=skip)

        wants_logprobs = sequence.params.logprobs is not None
        return CompletionOutput(
            index=index,
            text=sequence.text(decode),
            token_ids=sequence.output_token_ids,
            cumulative_logprob=sum(t.logprob or 0.0 for t in sequence.tokens) if wants_logprobs else None,
            logprobs=self._logprobs(sequence) if wants_logprobs else None,
            finish_reason=sequence.finish_reason,
            stop_reason=sequence.stop_reason,
        )

    def _logprobs(self, sequence: SequenceState) -> tuple[Mapping[int, Logprob], ...]:
        def entry(token_id: int, logprob: float, rank: int | None) -> Logprob:
            text = self.engine.tokenizer.decode([token_id], skip_special_tokens=False)
            return Logprob(logprob, rank, text)

        positions = []
        for token in sequence.tokens:
            position = {t: entry(t, logprob, rank) for rank, (t, logprob) in enumerate(token.top, start=1)}
            position[token.token_id] = entry(token.token_id, token.logprob or 0.0, token.rank)
            positions.append(position)
        return tuple(positions)


def _sample_params(params: SamplingParams, index: int) -> SamplingParams:
    """The parameters of sample ``index`` of ``n``: one answer, from a seed of its own."""
    if params.n == 1:
        return params
    return replace(params, n=1, seed=None if params.seed is None else params.seed + index)


def _one_each(params: SamplingParams | Sequence[SamplingParams], count: int) -> list[SamplingParams]:
    if isinstance(params, SamplingParams):
        return [params] * count
    if len(params) != count:
        raise ValueError(f"{count} prompts came with {len(params)} sampling parameters: give one, or one each")
    return list(params)
