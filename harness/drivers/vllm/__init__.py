"""Driver for vLLM with the Spyre plugin, in this process. Importing it imports neither vLLM nor torch.

Differences between plugin versions are in ``plugins.py`` and the modules that it names.
"""

from harness.drivers.base import Driver
from harness.drivers.registry import DriverOptions
from harness.drivers.vllm.driver import VllmDriver

__all__ = ["VllmDriver", "make"]


def make(options: DriverOptions) -> Driver:
    """Return the driver of vLLM in this process, with ``simulate`` without its model. Raises UnavailableError."""
    return VllmDriver(schedule_only=options.simulate)
