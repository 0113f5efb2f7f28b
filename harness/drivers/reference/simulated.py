"""``SimulatedSession``: the scheduler of the reference engine, without a model."""

from collections.abc import Sequence
from functools import lru_cache

from checkpoints import CheckpointError, resolve
from engine.config import EngineConfig
from engine.core import StepRecord as EngineRecord
from engine.scheduling.plan import Decode
from engine.simulation import NoModel, simulated_core
from engine.tokenizer import Tokenizer, eos_token_ids
from harness.drivers.base import (
    StepRecord,
)
from harness.drivers.reference.core_session import CoreSession
from harness.drivers.reference.setup import options_of
from harness.types import EngineSetup, RequestSpec, SchedulingLimits, Token

PLACEHOLDER = Token(-1)
"""The token that a simulation generates. Its id has no meaning, because the driver lacks the capability ``tokens``."""


class SimulatedSession(CoreSession):
    """A started reference engine without a model. Every token that it generates is the same placeholder.

    A request with ``simulated_token_ids`` gets these tokens instead of placeholders. If one of them is a stop token, or
    completes a stop string, the request ends before ``max_tokens``.
    """

    def __init__(self, setup: EngineSetup) -> None:
        self._executor = NoModel()
        self._model = setup.model
        self._decoded = Decode(("",), 0, (), ())
        self._decode = StepRecord("decode", (), (), ())
        config = EngineConfig(
            max_model_len=setup.max_model_len,
            max_num_seqs=setup.max_num_seqs,
            num_blocks=setup.num_blocks,
            scheduler=setup.scheduler,
            **options_of(setup),
        )
        super().__init__(
            simulated_core(config, self._executor, eos_token_ids=self._eos(), decode_text=self._decode_text)
        )

    def reset(self, limits: SchedulingLimits) -> SchedulingLimits:
        self._executor.scripts.clear()
        return super().reset(limits)

    def add_request(self, request: RequestSpec) -> None:
        if request.simulated_token_ids:
            self._executor.scripts[str(request.request_id)] = request.simulated_token_ids
        super().add_request(request)

    def _eos(self) -> frozenset[int]:
        try:
            return eos_token_ids(resolve(self._model).path)
        except CheckpointError:
            return frozenset()  # The model need not be installed for a simulation.

    def _decode_text(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of tokens.

        The engine calls this method only for requests with stop strings, so other requests need no tokenizer.
        """
        return _tokenizer(self._model).decode(token_ids, skip_special_tokens=skip_special_tokens)

    def _as_record(self, record: EngineRecord) -> StepRecord:
        """Convert the engine's record of a step to a StepRecord of the harness.

        The same object is returned for consecutive decodes of the same requests with the same blocks. Their records are
        equal, because every token of a simulation is the same placeholder.
        """
        plan = record.plan
        if record.finished_requests or not isinstance(plan, Decode):
            return super()._as_record(record)
        # The scheduler returns the same tuples until a request joins, ends or takes a block.
        if plan.block_tables is not self._decoded.block_tables or plan.request_ids is not self._decoded.request_ids:
            self._decoded, self._decode = plan, super()._as_record(record)
        return self._decode

    def _tokens(self, record: EngineRecord) -> tuple[Token, ...]:
        return (PLACEHOLDER,) * len(record.tokens)


@lru_cache(maxsize=4)
def _tokenizer(model: str) -> Tokenizer:
    return Tokenizer(resolve(model))
