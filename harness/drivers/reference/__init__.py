"""The drivers ``reference`` and ``simulation`` for the reference engine.

This is the only package of the harness that imports ``engine``.
"""

from engine.backends import label as reference_label
from harness.drivers.base import Driver
from harness.drivers.reference.driver import ReferenceDriver, SimulationDriver, become_server, reference_unavailable
from harness.drivers.reference.session import ReferenceSession
from harness.drivers.registry import DriverOptions

__all__ = [
    "ReferenceDriver",
    "ReferenceSession",
    "SimulationDriver",
    "become_server",
    "make",
    "make_simulation",
    "reference_label",
    "reference_unavailable",
]


def make(options: DriverOptions) -> Driver:
    """Return the driver of the reference engine or, with ``simulate``, of its scheduler without a model.

    Raises UnavailableError if a package that the engine needs is not installed.
    """
    return SimulationDriver() if options.simulate else ReferenceDriver(options.attention)


def make_simulation(options: DriverOptions) -> Driver:  # noqa: ARG001
    """Return the driver that runs the reference engine's scheduler without a model."""
    return SimulationDriver()
