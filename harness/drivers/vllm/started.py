"""``StartedEngine``: an engine of vLLM that runs in this process, with a record of its last step."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any, ClassVar

from harness.drivers.vllm.api import set_step, step_of
from harness.drivers.vllm.checkpoint import checked
from harness.drivers.vllm.environment import prepare_engine
from harness.drivers.vllm.plugins import Plugin
from harness.drivers.vllm.versions import version_of
from harness.types import EngineSetup


class StartedEngine:
    """An engine of vLLM: its LLM and its EngineCore.

    Three attributes are about the last step: ``decision`` is what the scheduler decided, ``held`` has the blocks that
    each request held when the step was scheduled, and ``outputs`` has the EngineCoreOutputs. Several sessions can use
    the engine. ``made`` is the number of requests that they have created, ``users`` is the number of open sessions, and
    ``left`` is whether any session has been closed.
    """

    _of_process: ClassVar[list["StartedEngine"]] = []

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
        self._of_process.append(self)
        self._watch()

    def _watch(self) -> None:
        """Wrap the EngineCore's methods, so that ``decision``, ``held`` and ``outputs`` are updated in each step.

        ``held`` is recorded when a step is scheduled, because a request that ends in the step holds no blocks after it.
        """
        schedule, step = self.core.scheduler.schedule, step_of(self.core)

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

        self.core.scheduler.schedule = watched_schedule
        set_step(self.core, watched_step)

    def leave(self) -> None:
        """Record that a session of this engine is closed. After the last session in the process, shut down all engines.

        The engines are shut down together, because the shutdown of one engine destroys vLLM's process groups, which
        they share.
        """
        self.left = True
        self.users -= 1
        if not any(engine.users for engine in self._of_process):
            for engine in self._of_process:
                engine.engine.engine_core.shutdown()
            self._of_process.clear()


def start(plugin: Plugin, setup: EngineSetup) -> Any:
    """Start an engine with a setup, and return vLLM's LLM.

    Raises CheckpointError if the model can't be used, and ValueError if vLLM or the plugin refuses the setup.
    """
    prepare_engine(plugin, setup)
    path = str(checked(setup.model, version_of("transformers")).path)
    # Some imports print text, which must not be mixed with JSON that a command writes to standard output.
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
        logits_processors=plugin.injectors(),
        **{"num_gpu_blocks_override": setup.num_blocks, **plugin.adapter.engine_arguments(setup)},
    )
