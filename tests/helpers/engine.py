"""Helpers for tests of the engine: engine cores without a model, requests, random workloads. Does not import torch."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st

from engine.config import EngineConfig, Limits
from engine.core import EngineCore, Executor, StepRecord
from engine.kv_cache.block_pool import BlockPool
from engine.kv_cache.blocks import blocks_for, round_up_to_block
from engine.request import CompletionOutput, Logprob, Request, SamplingParams, TokenOutput
from engine.scheduling.continuous.scheduler import ContinuousScheduler
from engine.scheduling.plan import Runnable, StepPlan
from engine.sequence import SequenceState

MADE_UP_TOKEN = 7

P = TypeVar("P", bound=StepPlan)


class ScriptedTokens:
    """An executor without a model. ``script`` has the tokens of a request by its id; further tokens are 7."""

    def __init__(self, script: Mapping[str, Sequence[int]] | None = None) -> None:
        self._script = script or {}

    def execute(self, plan: Runnable, sequences: Mapping[str, SequenceState]) -> list[TokenOutput]:
        return [self._next(sequences[request_id]) for request_id in plan.request_ids]

    def _next(self, sequence: SequenceState) -> TokenOutput:
        script = self._script.get(sequence.request.request_id, ())
        done = len(sequence.tokens)
        return TokenOutput(script[done] if done < len(script) else MADE_UP_TOKEN)


def core_with(
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    executor: Executor | None = None,
    eos_token_ids: frozenset[int] = frozenset(),
) -> EngineCore:
    """Return an engine core without a model, with these limits.

    The core is built with ``max_model_len`` 512 and ``max_num_seqs`` 4.
    """
    core = EngineCore(
        EngineConfig(max_model_len=512, max_num_seqs=4), executor or ScriptedTokens(), eos_token_ids=eos_token_ids
    )
    core.reset(limits)
    return core


def request(request_id: str, prompt_length: int, max_tokens: int, **params: Any) -> Request:
    """Return a greedy request whose prompt repeats one token. ``params`` are further fields of SamplingParams."""
    sampling_params = SamplingParams(temperature=0, max_tokens=max_tokens, **params)
    return Request(request_id, (5,) * prompt_length, sampling_params)


def add(core: EngineCore, *requests: Request) -> EngineCore:
    """Add requests to the queue of an engine core in the given order, and return the core."""
    for each in requests:
        core.add_request(each)
    return core


def step(core: EngineCore, times: int) -> StepRecord:
    """Run ``times`` steps and return the record of the last step."""
    return [core.step() for _ in range(times)][-1]


def pool_of(core: EngineCore) -> BlockPool:
    """Return the block pool of an engine core. The core must have the continuous scheduler."""
    assert isinstance(core.scheduler, ContinuousScheduler)
    return core.scheduler.pool


def planned(record: StepRecord, kind: type[P]) -> P:
    """Return the plan of a step. Raises AssertionError if the plan is not of the type ``kind``."""
    assert isinstance(record.plan, kind)
    return record.plan


def with_logprobs(completion: CompletionOutput) -> list[tuple[int, Mapping[int, Logprob]]]:
    """Return a pair for each generated token: its id, and the logprobs at its position by token id.

    Raises AssertionError if the request did not ask for logprobs.
    """
    assert completion.logprobs is not None
    return list(zip(completion.token_ids, completion.logprobs, strict=True))


def run(core: EngineCore) -> list[StepRecord]:
    """Run steps until the engine core has no work, and return the records of these steps."""
    records: list[StepRecord] = []
    while core.has_work:
        records.append(core.step())
        assert len(records) < 10_000, "the engine never ends"
    return records


def random_tokens(length: int, seed: int) -> tuple[int, ...]:
    """Return random token ids of the built-in model, without special tokens, that depend on length and seed only."""
    draw = random.Random(f"{length}/{seed}")
    return tuple(draw.randrange(4, 2048) for _ in range(length))


def is_one_sentence(message: str) -> bool:
    """Return whether a message is one sentence on one line, without a full stop."""
    return bool(message) and "\n" not in message and ". " not in message and not message.endswith(".")


class Arrival(NamedTuple):
    """A request of a random workload: its lengths in tokens, and the step before which it is queued."""

    prompt_length: int
    max_tokens: int
    join_step: int


class Workload(NamedTuple):
    """Requests of a random workload in the order of their arrival, with limits that allow each request to run alone."""

    limits: Limits
    arrivals: list[Arrival]

    def queue(self, core: EngineCore) -> tuple[str, ...]:
        """Queue the requests that arrive before the next step.

        Return their ids, which are their positions in ``arrivals``.
        """
        due = [i for i, arrival in enumerate(self.arrivals) if arrival.join_step == core.steps_done]
        add(core, *(request(str(i), *self.arrivals[i][:2]) for i in due))
        return tuple(map(str, due))

    @property
    def last_join(self) -> int:
        return max(arrival.join_step for arrival in self.arrivals)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Generate 1 to 10 requests with prompts of 1 to 200 tokens and ``max_tokens`` from 1 to 80, and small limits."""
    max_model_len = draw(st.sampled_from([192, 256, 320, 384, 512]))
    limits = Limits(
        max_model_len=max_model_len,
        max_num_seqs=draw(st.integers(1, 4)),
        available_blocks=draw(st.integers(blocks_for(max_model_len), 20)),
        max_batch_tkv_limit=draw(st.integers(64, 2048)),
    )
    arrivals = []
    join_step = 0
    for _ in range(draw(st.integers(1, 10))):
        prompt_length = draw(st.integers(1, min(200, max_model_len - 64)))
        room = max_model_len - round_up_to_block(prompt_length)
        max_tokens = draw(st.integers(1, min(80, room)))
        join_step += draw(st.sampled_from([0, 0, 1, 2, 7, 30]))
        arrivals.append(Arrival(prompt_length, max_tokens, join_step))
    return Workload(limits, arrivals)
