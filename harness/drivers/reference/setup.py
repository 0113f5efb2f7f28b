"""Convert an EngineSetup to the reference engine's EngineConfig."""

from dataclasses import asdict
from typing import Any

from harness.types import EngineSetup


def options_of(setup: EngineSetup) -> dict[str, Any]:
    """Return the scheduler options of a setup as arguments of EngineConfig. The result is empty if there are none."""
    return {} if setup.options is None else asdict(setup.options)
