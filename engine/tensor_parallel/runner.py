"""ParallelRunner, the executor for tensor parallelism: worker processes run the model; the engine samples."""

from collections.abc import Mapping

import torch

from engine.backends.compilation import Compilation
from engine.model.inputs import token_ids_for
from engine.model.prompt_scores import PromptLogits, store_prompt_logprobs, wanted_parts
from engine.model.sampler import sample
from engine.request import TokenOutput
from engine.scheduling.plan import Runnable
from engine.sequence import SequenceState
from engine.tensor_parallel.workers import Workers


class ParallelRunner:
    """An executor that sends each plan to the workers, and samples from the logits that they return.

    ``seed`` is ``EngineConfig.seed``.
    """

    def __init__(self, workers: Workers, seed: int) -> None:
        self._workers = workers
        self._seed = seed

    @property
    def compilation(self) -> Compilation | None:
        """Return the summary of what was compiled in all workers; None if the backend does not compile."""
        return self._workers.compilation

    def execute(self, plan: Runnable, sequences: Mapping[str, SequenceState]) -> list[TokenOutput]:
        """Run the plan and return one token for each of ``plan.request_ids``, in that order.

        Raises WorkerDiedError if a worker has ended or failed.
        """
        rows = [sequences[request_id] for request_id in plan.request_ids]
        step = self._workers.step_logits(plan, token_ids_for(plan, rows), wanted_parts(plan, sequences))
        for request_id, start, values in step.prompts:
            store_prompt_logprobs(PromptLogits(request_id, start, torch.from_numpy(values)), sequences[request_id])
        return sample(torch.from_numpy(step.values), rows, self._seed) if rows else []
