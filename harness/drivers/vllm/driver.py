"""``VllmDriver``, which starts engines of vLLM with the installed Spyre plugin, or without a plugin."""

import importlib

from harness.drivers.base import BLOCK_ACCOUNTING, PAUSING, STEP_TRACE, UnavailableError
from harness.drivers.vllm.environment import prepare
from harness.drivers.vllm.plugins import Plugin, described, find_plugin, why_none
from harness.drivers.vllm.session import VllmSession
from harness.drivers.vllm.started import StartedEngine
from harness.drivers.vllm.versions import number_of_vllm
from harness.types import EngineSetup

PRELOADED = ("vllm", "vllm.entrypoints.llm", "vllm.v1.engine.core", "vllm.v1.engine.llm_engine")


SCHEDULE_ONLY = frozenset({STEP_TRACE, BLOCK_ACCOUNTING, PAUSING})


class VllmDriver:
    """The driver of vLLM in this process.

    With ``schedule_only``, the scheduler and the model runner run, but not the model, so only steps can be checked. The
    constructor raises UnavailableError if no supported version is installed or, with ``schedule_only``, if the plugin
    has no logits processor for golden tokens.
    """

    def __init__(self, plugin: Plugin | None = None, *, schedule_only: bool = False) -> None:
        found = plugin or find_plugin()
        if found is None:
            raise UnavailableError(why_none())
        if schedule_only and not found.injects:
            raise UnavailableError(
                f"{found.package} {found.installed} can't run without its model, because it has no logits processor "
                "for golden tokens: run it without --cb-simulate"
            )
        self.plugin = found
        self.scheduler = found.scheduler
        self.vllm_version = number_of_vllm()
        self._schedule_only = schedule_only
        self._engines: dict[EngineSetup, StartedEngine] = {}
        self.name = "simulated vllm" if schedule_only else "vllm"
        self.capabilities = found.able & SCHEDULE_ONLY if schedule_only else found.able

    def describe(self) -> str:
        return described(self.plugin) + (", without its model's forward" if self._schedule_only else "")

    def unavailable(self, setup: EngineSetup) -> str | None:
        if reason := self.plugin.unavailable(setup):
            return reason
        if setup.tensor_parallel_size > 1:
            return (
                f"tensor_parallel_size {setup.tensor_parallel_size}: the driver can observe steps only if the worker "
                "runs in the driver's process, which requires tensor_parallel_size 1"
            )
        return None

    def preload(self) -> None:
        prepare(self.plugin)
        for module in (*PRELOADED, self.plugin.module):
            importlib.import_module(module)

    def open(self, setup: EngineSetup) -> VllmSession:
        reason = self.unavailable(setup)
        if reason is not None:
            raise UnavailableError(reason)
        return VllmSession(self.plugin, setup, self._started(setup))

    def _started(self, setup: EngineSetup) -> StartedEngine:
        """Return a started engine for ``setup``.

        Without ``schedule_only``, each call starts a new engine. With it, setups share an engine if they differ only in
        options that can be changed while the engine runs.
        """
        if not self._schedule_only:
            return StartedEngine(self.plugin, setup)
        shape = self.plugin.adapter.shape(setup)
        if shape not in self._engines or self._engines[shape].left:
            self._engines[shape] = StartedEngine(self.plugin, shape, schedule_only=True)
        return self._engines[shape]
