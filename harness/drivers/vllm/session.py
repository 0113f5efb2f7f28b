"""``VllmSession``: a started vLLM engine in this process. It runs step by step, and has the offline API."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.drivers.base import Completion, Observation, RefusedError, StepRecord
from harness.drivers.client import Client
from harness.drivers.vllm.adapter import resolved
from harness.drivers.vllm.api import abort_outputs, eos_token_id, input_processor, made_request
from harness.drivers.vllm.plugins import Plugin
from harness.drivers.vllm.requests import is_refusal, sampling_arguments, token_of, tokenization_arguments
from harness.drivers.vllm.started import StartedEngine
from harness.suites.schema import ServerOptions
from harness.types import EngineSetup, RequestSpec, SchedulingLimits, Token

MAX_STEPS_TO_DRAIN = 10
SECONDS_TO_COMPILE = 60


class VllmSession:
    """A started vLLM engine that runs cases with the options of one setup.

    Every request gets an id that no other request in the process has had, because a plugin keeps decisions by request
    id, even after the request has ended.
    """

    def __init__(self, plugin: Plugin, setup: EngineSetup, started: StartedEngine) -> None:
        self._plugin, self._setup, self._started = plugin, setup, started
        self.llm, self.core, self._engine = started.llm, started.core, started.engine
        self._numbers: dict[str, int] = {}
        self._specs: dict[str, RequestSpec] = {}
        self._steps: list[tuple[StepRecord, Observation]] = []
        started.users += 1

    def reset(self, limits: SchedulingLimits) -> SchedulingLimits:
        effective = resolved(limits, self._started.built)
        self._end_all()
        self._numbers.clear()
        self._specs.clear()
        self._started.decision = self._plugin.idle
        self._plugin.adapter.tighten(self.core, effective, self._setup)
        self._plugin.enter(self._engine.vllm_config)
        return effective

    def _end_all(self) -> None:
        names = list(self.core.scheduler.requests)
        abort_outputs(self._engine, names)
        self.core.abort_requests(names)
        for _ in range(MAX_STEPS_TO_DRAIN):
            if not self.core.scheduler.has_requests():
                return
            self.core.step_fn()
        raise RuntimeError(f"the engine still has the requests that were aborted {MAX_STEPS_TO_DRAIN} steps ago")

    def add_request(self, request: RequestSpec) -> None:
        name = f"{self._started.made}-{request.request_id}"
        self._started.made += 1
        made = self._made_request(name, request)
        self._numbers[name], self._specs[name] = request.request_id, request
        if request.stop:
            # Stop strings are not checked by the core, but by the detokenizer in the output processor.
            self._engine.output_processor.add_request(made, None)
        core_request, wave = self.core.preprocess_add_request(made)
        _wait_for_the_grammar(core_request)
        self.core.add_request(core_request, wave)

    def _made_request(self, name: str, request: RequestSpec) -> Any:
        """Return the EngineCoreRequest that vLLM's input processor would create. The request is not validated."""
        from vllm import SamplingParams

        processor = input_processor(self._engine)
        params = SamplingParams(**sampling_arguments(request))
        end = eos_token_id(processor)
        params.update_from_generation_config(processor.generation_config_fields, end)
        if request.bad_words:
            params.update_from_tokenizer(self.llm.get_tokenizer())
        fields = {
            "request_id": name,
            "prompt_token_ids": list(request.prompt_token_ids),
            "mm_features": None,
            "sampling_params": params,
            "pooling_params": None,
            "arrival_time": time.time(),
            "lora_request": None,
            "cache_salt": None,
            "data_parallel_rank": None,
            "external_req_id": name,
        }
        return made_request(end, fields)

    def abort(self, request_id: int) -> None:
        names = [name for name, number in self._numbers.items() if number == request_id]
        abort_outputs(self._engine, names)
        self.core.abort_requests(names)

    def step(self) -> StepRecord:
        self.core.step_fn()
        with_text = [output for output in self._started.outputs if self._specs[output.request_id].stop]
        if with_text:
            ended = self._engine.output_processor.process_outputs(with_text)
            self.core.abort_requests(ended.reqs_to_abort)
        return self._record()

    def _record(self) -> StepRecord:
        """Return the result of the last step.

        ``finished_requests`` also has the requests that ended at a stop string, which vLLM's core does not end itself.
        """
        outputs, scheduled = self._started.outputs, self._started.decision.scheduled
        there = self.core.scheduler.requests
        # With the token-budget scheduler, block tables are those of all scheduled requests when the step was scheduled.
        blocks = (
            self._started.held
            if scheduled is not None
            else self._started.held | self._plugin.adapter.observe(self.core).blocks
        )
        tabled = [output.request_id for output in outputs] if scheduled is None else [name for name, _ in scheduled]
        return StepRecord(
            self._started.decision.kind,
            tuple(self._numbers[output.request_id] for output in outputs),
            tuple(self._numbers[output.request_id] for output in outputs if output.request_id not in there),
            tuple(self._token(output) for output in outputs),
            tuple(blocks.get(name, ()) for name in tabled),
        )

    def _token(self, output: Any) -> Token:
        return token_of(output, self._specs[output.request_id].logprobs)

    def observe(self) -> Observation:
        seen, decision = self._plugin.adapter.observe(self.core), self._started.decision
        used = set[int]().union(*seen.blocks.values())
        hits = self._counted(tuple(seen.hits.items()) if seen.hits is not None else decision.hits)
        return Observation(
            seen.tkv,
            self._numbered(seen.waiting),
            self._numbered(seen.running),
            seen.reserved,
            len(used) if seen.counted else None,
            None if seen.paused is None else self._numbered(seen.paused),
            hits if hits is None or decision.scheduled is not None else tuple(sorted(hits)),
            self._counted(decision.scheduled),
            None if decision.preempted is None else self._numbered(decision.preempted),
        )

    def _numbered(self, names: Sequence[str]) -> tuple[int, ...]:
        return tuple(self._numbers[name] for name in names)

    def _counted(self, pairs: Sequence[tuple[str, int]] | None) -> tuple[tuple[int, int], ...] | None:
        return None if pairs is None else tuple((self._numbers[name], count) for name, count in pairs)

    def has_work(self) -> bool:
        return bool(self.core.scheduler.has_requests())

    def generate(self, requests: Sequence[RequestSpec]) -> list[Completion]:
        from vllm import SamplingParams

        self._steps = []
        step = self._engine.step

        def watched() -> Any:
            if not self._steps:
                self._record_ids(requests)
            outputs = step()
            self._steps.append((self._record(), self.observe()))
            return outputs

        self._engine.step = watched
        try:
            outputs = self.llm.generate(
                [{"prompt_token_ids": list(request.prompt_token_ids)} for request in requests],
                [SamplingParams(**sampling_arguments(request)) for request in requests],
                use_tqdm=False,
                **tokenization_arguments(requests),
            )
        except Exception as error:
            if self._steps or not is_refusal(error):
                raise
            raise RefusedError(str(error)) from error
        finally:
            self._engine.step = step
        self._until_idle()
        return list(map(_completion, outputs))

    def _record_ids(self, requests: Sequence[RequestSpec]) -> None:
        """Record the ids that ``LLM.generate`` has given to ``requests``. It adds them to the engine in this order.

        Raises RuntimeError if the engine has further requests. Before vLLM 0.14, a call of ``LLM.generate`` that was
        refused can leave requests in the engine.
        """
        names = list(self.core.scheduler.requests)
        if len(names) > len(requests):
            raise RuntimeError(f"{len(names) - len(requests)} requests of an earlier call are still in the engine")
        self._numbers = {name: place for place, name in enumerate(names)}
        self._specs = dict(zip(names, requests, strict=True))

    def _until_idle(self) -> None:
        """Run steps until the engine is idle.

        ``LLM.generate`` returns after the step with the last token. The blocks are freed only in the next step.
        """
        for _ in range(MAX_STEPS_TO_DRAIN):
            if not self.has_work():
                return
            self.core.step_fn()
            self._steps.append((self._record(), self.observe()))

    def steps_of_generate(self) -> Sequence[tuple[StepRecord, Observation]]:
        return self._steps

    def client(self, options: ServerOptions) -> Client:  # noqa: ARG002
        from harness.drivers.vllm.offline_client import OfflineClient

        return OfflineClient(self)

    def close(self) -> None:
        self._started.leave()


def _completion(output: Any) -> Completion:
    first, found = output.outputs[0], output.prompt_logprobs
    completion = Completion(tuple(first.token_ids), first.text, first.finish_reason)
    if found is None:
        return completion
    own = (at and float(at[token].logprob) for at, token in zip(found, output.prompt_token_ids, strict=True))
    listed = (tuple(float(each.logprob) for each in (at or {}).values()) for at in found)
    return replace(completion, prompt_logprobs=tuple(own), prompt_alternatives=tuple(listed))


def _wait_for_the_grammar(request: Any) -> None:
    """Wait until vLLM has compiled the constraint of a request, so that schedules don't depend on the compile time.

    While a constraint is being compiled, vLLM keeps the request in a separate queue and does not schedule it. Raises
    ValueError with vLLM's reason if the constraint can't be compiled.
    """
    structure = getattr(request, "structured_output_request", None)
    if structure is None:
        return
    until = time.monotonic() + SECONDS_TO_COMPILE
    while not structure.is_grammar_ready and time.monotonic() < until:
        time.sleep(0.001)
    if isinstance(structure.grammar, Exception):
        raise ValueError(str(structure.grammar)) from structure.grammar
    if structure.is_grammar_ready:
        from vllm.v1.request import RequestStatus

        request.status = RequestStatus.WAITING
