"""The reference engine as a driver: the only package of the harness that imports ``engine``."""

from engine.backends import label as reference_label
from harness.drivers.reference.driver import ReferenceDriver, SimulationDriver, become_server, reference_unavailable
from harness.drivers.reference.session import ReferenceSession

__all__ = [
    "ReferenceDriver",
    "ReferenceSession",
    "SimulationDriver",
    "become_server",
    "reference_label",
    "reference_unavailable",
]
