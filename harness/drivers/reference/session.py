"""``ReferenceSession``: a started reference engine with a model.

torch and ibm-fms are imported when the engine is started, so that pytest collects tests quickly.
"""

import importlib
import itertools
import os
from collections.abc import Sequence

from engine.build import build_engine
from engine.config import EngineConfig
from engine.core import StepRecord as EngineRecord
from engine.entrypoints.prompts import with_bad_words
from engine.entrypoints.validation import RequestRefusedError
from engine.environment import threads
from engine.request import RequestOutput, SamplingParams, SamplingParamsError
from engine.scheduling.plan import SchedulerState, StepPlan, kind_of
from harness.drivers.base import (
    Compilation,
    Completion,
    Observation,
    RefusedError,
    StepRecord,
)
from harness.drivers.client import Client
from harness.drivers.reference.core_session import (
    CoreSession,
    as_token,
    block_tables_of,
    observation,
    prompt_values,
    sampling_params,
)
from harness.drivers.reference.setup import options_of
from harness.drivers.reference.writes import writes_of
from harness.suites.schema import ServerOptions
from harness.types import EngineSetup, RequestSpec, Write
from harness.utils import spent
from harness.utils.gc import gc_paused

_NUMBERS = itertools.count()


class ReferenceSession(CoreSession):
    """A started reference engine with a model. It runs step by step, and has the engine's offline API."""

    def __init__(self, setup: EngineSetup, attention: str | None) -> None:
        # The imports take seconds. Without gc_paused, an eighth of this time would be garbage collection.
        with gc_paused(), spent.timed("imports"):
            import torch

            from engine.entrypoints.llm import LLM

            if setup.tensor_parallel_size == 1:  # Else the model runs in worker processes, which import this module.
                importlib.import_module("engine.execution.runner")

        torch.set_num_threads(threads(os.environ))
        # The engine loads the tokenizer when a case first needs text. Most cases need token ids only.
        self.llm = LLM(build_engine(_config(setup, attention)))
        super().__init__(self.llm.engine.core)
        self._block_size = setup.block_size
        self._steps: list[tuple[StepRecord, Observation]] = []
        self._name = f"{os.getpid()}-{next(_NUMBERS)}"

    @property
    def compilation(self) -> Compilation | None:
        compiled = self.llm.engine.compilation
        return None if compiled is None else Compilation(self._name, *compiled)

    def params_of(self, request: RequestSpec) -> SamplingParams:
        """Return the request's SamplingParams, with ``bad_words`` tokenized.

        The engine's APIs also tokenize ``bad_words``, but a session passes requests directly to the engine core.
        """
        params = super().params_of(request)
        return with_bad_words(params, self.llm.engine.tokenizer) if params.bad_words else params

    def _writes(self, plan: StepPlan, first: int = 0) -> tuple[Write, ...] | None:
        forwards = getattr(self.llm.engine.executor, "written", None)
        return None if forwards is None else writes_of(plan, forwards, self._block_size, first)

    def generate(self, requests: Sequence[RequestSpec]) -> list[Completion]:
        self._steps, self._seen = [], None
        first = self.llm.requests_made

        def position(request_ids: Sequence[str]) -> tuple[int, ...]:
            return tuple(int(request_id) - first for request_id in request_ids)

        def on_step(record: EngineRecord) -> None:
            seen = StepRecord(
                kind_of(record.plan),
                position(record.request_outputs),
                position(record.finished_requests),
                tuple(map(as_token, record.tokens)),
                block_tables_of(record.plan),
                self._writes(record.plan, first),
            )
            waiting, running = position(record.waiting), position(record.running)
            self._steps.append((seen, observation(_state_of(record), waiting, running, first)))

        try:
            outputs = self.llm.generate(
                [{"prompt_token_ids": request.prompt_token_ids} for request in requests],
                [sampling_params(request) for request in requests],
                progress=False,
                on_step=on_step,
            )
        except (RequestRefusedError, SamplingParamsError) as refusal:
            raise RefusedError(str(refusal)) from refusal
        return list(map(_completion, outputs))

    def steps_of_generate(self) -> Sequence[tuple[StepRecord, Observation]]:
        return self._steps

    def client(self, options: ServerOptions) -> Client:
        from harness.drivers.reference.client import ReferenceClient

        return ReferenceClient(self.llm.engine, self, options.max_queue)

    def close(self) -> None:
        self.llm.close()


def _completion(output: RequestOutput) -> Completion:
    first, prompt = output.outputs[0], prompt_values(output.prompt_logprobs, output.prompt_token_ids)
    # The engine's finish reason is an enum member. Reports show its value, so it is converted to a string.
    return Completion(first.token_ids, first.text, first.finish_reason and str(first.finish_reason), *prompt)


def _state_of(record: EngineRecord) -> SchedulerState:
    return SchedulerState(
        record.tkv,
        record.waiting,
        record.running,
        record.n_reserved_blocks,
        record.n_used_blocks,
        record.chunked,
        record.token_budget,
    )


def _config(setup: EngineSetup, attention: str | None) -> EngineConfig:
    return EngineConfig(
        model=setup.model,
        backend=setup.backend,
        attention=attention,
        tensor_parallel_size=setup.tensor_parallel_size,
        max_model_len=setup.max_model_len,
        max_num_seqs=setup.max_num_seqs,
        num_blocks=setup.num_blocks,
        scheduler=setup.scheduler,
        **options_of(setup),
    )
