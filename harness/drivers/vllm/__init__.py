"""The driver ``vllm``: vLLM in this process, with a Spyre plugin or without one.

Importing this package imports neither vLLM nor torch. ``plugins.py`` describes the supported plugins. Each plugin has
an adapter module, which contains what differs between plugins.
"""

from harness.drivers.base import Driver
from harness.drivers.registry import DriverOptions
from harness.drivers.vllm.driver import VllmDriver

__all__ = ["VllmDriver", "make"]


def make(options: DriverOptions) -> Driver:
    """Return the driver. With ``simulate``, the engine does not run its model.

    Raises UnavailableError if no supported version of vLLM or of a plugin is installed.
    """
    return VllmDriver(schedule_only=options.simulate)
