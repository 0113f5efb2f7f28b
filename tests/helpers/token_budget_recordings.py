"""Workloads recorded from vLLM's own scheduler, and their replay on the reference engine. Does not import torch.

``data/token_budget_recordings.json.gz`` has 19 workloads, which ran on the engine core of vLLM 0.27.1 and on that of
0.32.0, with the built-in model in float32 on CPU. A request is added before step ``before_step``, and aborted before
step ``aborted_before_step``. ``tokens`` are the tokens that the model generated. ``steps`` has a table for each version
of vLLM, whose columns are named by ``columns``. ``held`` are the block tables of the scheduled requests, and ``queue``
is the queue of free blocks after the step.
"""

import gzip
import json
from typing import Any

from engine.config import EngineConfig, Limits
from engine.core import EngineCore, Executor, StepRecord
from engine.request import Request, SamplingParams
from engine.scheduling.plan import MixedStep
from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler
from tests.helpers.paths import DATA

FILE = DATA / "token_budget_recordings.json.gz"
RECORDED: dict[str, Any] = json.loads(gzip.decompress(FILE.read_bytes()))
VERSIONS = ("0.27", "0.32")


def config_of(workload: dict[str, Any], rules: str, **more: Any) -> EngineConfig:
    """Return the configuration of an engine with the limits and options of a recorded workload.

    ``rules`` is the version of vLLM whose rules the scheduler follows, and ``more`` are further fields.
    """
    limits = workload["limits"]
    return EngineConfig(
        scheduler="token_budget",
        max_model_len=limits["max_model_len"],
        max_num_seqs=limits["max_num_seqs"],
        num_blocks=limits["available_blocks"] + 1,
        rules=rules,
        **workload["token_budget"] | more,
    )


class Replay:
    """Runs a recorded workload on the reference engine. ``rows`` has the columns of the recording, one row per step."""

    def __init__(self, workload: dict[str, Any], config: EngineConfig, executor: Executor) -> None:
        self.workload = workload
        self.core = EngineCore(config, executor)
        self.core.reset(Limits(**workload["limits"]))
        self.outputs: list[list[int]] = [[] for _ in workload["requests"]]
        self._arrive(1)
        self.rows = [self._row(None)]

    @property
    def scheduler(self) -> TokenBudgetScheduler:
        scheduler = self.core.scheduler
        assert isinstance(scheduler, TokenBudgetScheduler)
        return scheduler

    def run(self, steps: int) -> None:
        """Run ``steps`` steps. Before each step, requests are added and aborted as in the recording."""
        for step in range(1, steps + 1):
            if step > 1:
                self._arrive(step)
            for number, request in enumerate(self.workload["requests"]):
                if request.get("aborted_before_step") == step:
                    self.core.abort(str(number))
            record = self._step()
            for request_id, token in zip(record.request_outputs, record.tokens, strict=True):
                self.outputs[int(request_id)].append(token.token_id)
            self.rows.append(self._row(record))
            self.scheduler.pool.check_integrity()

    def _step(self) -> StepRecord:
        return self.core.step()

    def _arrive(self, step: int) -> None:
        for number, request in enumerate(self.workload["requests"]):
            if request["before_step"] == step:
                params = SamplingParams(
                    temperature=0,
                    max_tokens=request["max_tokens"],
                    ignore_eos=True,
                    stop_token_ids=tuple(request.get("stop_token_ids", ())),
                )
                self.core.add_request(Request(str(number), tuple(request["prompt"]), params))

    def _row(self, record: StepRecord | None) -> list[Any]:
        scheduler = self.scheduler
        plan = MixedStep((), (), ()) if record is None else record.plan
        assert isinstance(plan, MixedStep)
        tokens = () if record is None else [token.token_id for token in record.tokens]
        finished = () if record is None else record.finished_requests
        return [
            self.core.steps_done,
            plan.kind,
            [[int(i), tokens] for i, tokens in plan.scheduled],
            [int(i) for i in plan.preempted],
            [[int(i), tokens] for i, tokens in plan.hits],
            [[int(s.request_id), s.computed] for s in scheduler._running],
            [int(s.request_id) for s in scheduler._running],
            [int(s.request_id) for s in scheduler._waiting],
            [[int(i), token] for i, token in zip(plan.request_ids, tokens, strict=True)],
            [[int(i), str(self.core.sequences[i].finish_reason)] for i in finished],
            scheduler.pool.used_total,
            [[int(part.request_id), list(part.blocks)] for part in plan.parts],
            list(scheduler.pool.free_queue),
        ]
