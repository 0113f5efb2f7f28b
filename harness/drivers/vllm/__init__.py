"""Driver for vLLM with the Spyre plugin, in this process. Importing it imports neither vLLM nor torch.

Differences between plugin versions are in ``plugins.py`` and the modules that it names.
"""

from harness.drivers.base import Driver
from harness.drivers.registry import DriverOptions
from harness.drivers.vllm.driver import VllmDriver

__all__ = ["VllmDriver", "make"]


def make(options: DriverOptions) -> Driver:
    """vLLM in this process; simulated with its own scheduler. Raises UnavailableError where it is not installed."""
    return VllmDriver(schedule_only=options.simulate)
