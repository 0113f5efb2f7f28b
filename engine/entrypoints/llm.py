"""LLM, the offline API: takes a list of prompts and returns a list of outputs in the same order."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from engine.build import Engine, build_engine
from engine.config import EngineConfig, Limits
from engine.core import StepRecord
from engine.entrypoints.completion import completion
from engine.entrypoints.prompts import Prompt, admitted, check_prompt_logprobs, requests_for
from engine.request import Request, RequestOutput, SamplingParams


class LLM:
    """An engine with ``generate`` for lists of prompts.

    ``model`` is an engine that is already built, or the name of a model; with a name, ``config`` has further arguments
    of EngineConfig. Raises ConfigError if ``config`` is invalid, and the errors of ``build_engine``.
    """

    def __init__(self, model: str | Engine = "tiny-granite", **config: Any) -> None:
        if isinstance(model, str):
            self.engine = build_engine(EngineConfig(model=model, **config))
            self.engine.tokenizer.load()  # so that the first ``generate`` does not wait for it
        else:
            self.engine = model
        self.requests_made = 0

    def reset(self, limits: Limits) -> None:
        """Drop every request and set new limits. Raises ConfigError if the engine can't have these limits."""
        self.engine.core.reset(limits)

    def close(self) -> None:
        """End the engine's worker processes, if any (``tensor_parallel_size``). Idempotent."""
        self.engine.close()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool = True,
        on_step: Callable[[StepRecord], None] | None = None,
    ) -> list[RequestOutput]:
        """Run all prompts to their end, and return one output per prompt, in the same order.

        ``sampling_params`` is for all prompts, or is a list with one element per prompt; None means the defaults. With
        ``progress``, a progress bar is shown. ``on_step`` is called with the record of every step.

        Before the first step, raises RequestRefusedError if a prompt and its ``max_tokens`` exceed the context,
        SamplingParamsError if structured outputs cannot be compiled, and ValueError if the numbers of prompts and
        parameters differ.
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
        """Check a prompt, and return its ``n`` requests for the engine core."""
        core = self.engine.core
        check_prompt_logprobs(core.config, params)
        core.check_grammar(params)
        most, padded = core.limits.max_model_len, core.config.pads_prompts
        ready = admitted(prompt, params, self.engine.tokenizer, most, padded=padded)
        number = self.requests_made
        self.requests_made += 1
        return requests_for(str(number), ready)

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
        """Remove the requests of an interrupted ``generate``, so that the next ``generate`` does not run them."""
        core = self.engine.core
        for request in chain.from_iterable(groups):
            if request.request_id in core.sequences:
                core.abort(request.request_id)
                core.release(request.request_id)

    def _output(self, prompt: Prompt, group: list[Request]) -> RequestOutput:
        core, tokenizer = self.engine.core, self.engine.tokenizer
        outputs = [
            completion(index, core.release(request.request_id), tokenizer) for index, request in enumerate(group)
        ]
        return RequestOutput(
            request_id=group[0].request_id.split("-")[0],
            prompt=prompt if isinstance(prompt, str) else None,
            prompt_token_ids=group[0].prompt_token_ids,
            outputs=tuple(outputs),
            finished=True,
        )


def _one_each(params: SamplingParams | Sequence[SamplingParams], count: int) -> list[SamplingParams]:
    if isinstance(params, SamplingParams):
        return [params] * count
    if len(params) != count:
        raise ValueError(
            f"{count} prompts came with {len(params)} sampling parameters: pass one SamplingParams, or one per prompt"
        )
    return list(params)
