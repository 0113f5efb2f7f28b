"""One engine of vLLM that has started in this process, and what its last step was seen to do."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from harness.drivers.vllm.checkpoint import checked
from harness.drivers.vllm.environment import prepare_engine
from harness.drivers.vllm.plugins import Plugin
from harness.drivers.vllm.versions import version_of
from harness.types import EngineSetup


class StartedEngine:
    """vLLM's LLM and the EngineCore in it.

    ``decision`` is what the last step was scheduled to do, ``held`` the blocks of each request as it was scheduled,
    ``outputs`` what came of it. ``made`` counts requests, by all sessions that use it, and ``users`` those;
    ``left`` is whether any of them has gone.
    """

    def __init__(self, plugin: Plugin, setup: EngineSetup, *, schedule_only: bool = False) -> None:
        self._plugin = plugin
        self.llm = start(plugin, setup)
        self.engine = self.llm.llm_engine
        self.core = self.engine.engine_core.engine_core
        if schedule_only:
            plugin.adapter.leave_out_the_model(self.core)
        self.built = plugin.adapter.built(self.core)
        self.decision = plugin.idle
        self.held: dict[str, tuple[int, ...]] = {}
        self.outputs: Sequence[Any] = ()
        self.made = 0
        self.users = 0
        self.left = False
        self._watch()

    def _watch(self) -> None:
        """Remember what each step scheduled and what came of it; the step itself stays the engine's own.

        Where a request gives its blocks back as it ends, they can only be seen before: as they were scheduled.
        """
        schedule, step = self.core.scheduler.schedule, self.core.step_fn

        def watched_schedule(*arguments: Any) -> Any:
            scheduled = schedule(*arguments)
            self.decision = self._plugin.adapter.decision(self.core, scheduled)
            self.held = self._plugin.adapter.observe(self.core).blocks
            return scheduled

        def watched_step() -> Any:
            self.decision, self.outputs = self._plugin.idle, ()
            outputs, ran = step()
            self.outputs = outputs[0].outputs if outputs and 0 in outputs else ()
            return outputs, ran

        self.core.scheduler.schedule, self.core.step_fn = watched_schedule, watched_step

    def leave(self) -> None:
        """A session goes; the last one ends the engine."""
        self.left = True
        self.users -= 1
        if not self.users:
            self.engine.engine_core.shutdown()


def start(plugin: Plugin, setup: EngineSetup) -> Any:
    """vLLM's LLM for a setup. Raises CheckpointError, and ValueError where the plugin refuses the setup."""
    prepare_engine(plugin, setup)
    path = str(checked(setup.model, version_of("transformers")).path)
    # Some of what is imported prints, and standard output may be where somebody wants JSON.
    with redirect_stdout(sys.stderr):
        return _started(plugin, setup, path)


def _started(plugin: Plugin, setup: EngineSetup, path: str) -> Any:
    from vllm import LLM

    return LLM(
        model=path,
        tokenizer=path,
        max_model_len=setup.max_model_len,
        max_num_seqs=setup.max_num_seqs,
        tensor_parallel_size=setup.tensor_parallel_size,
        disable_log_stats=True,
        max_logprobs=20,
        logits_processors=[plugin.injector()],
        **{"num_gpu_blocks_override": setup.num_blocks, **plugin.adapter.engine_arguments(setup)},
    )
