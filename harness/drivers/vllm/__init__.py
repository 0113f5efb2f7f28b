"""vLLM with the Spyre plugin as a driver, in this process. Importing this imports neither vLLM nor torch.

What differs between plugins stands in ``plugins.py`` and the modules it names, and nowhere else.
"""

from harness.drivers.base import Driver
from harness.drivers.registry import DriverOptions
from harness.drivers.vllm.driver import VllmDriver

__all__ = ["VllmDriver", "make"]


def make(options: DriverOptions) -> Driver:
    """vLLM in this process; simulated with its own scheduler. Raises UnavailableError where it is not installed."""
    return VllmDriver(schedule_only=options.simulate)
