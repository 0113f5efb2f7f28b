"""Convert an EngineSetup to the engine's configuration."""

from dataclasses import asdict
from typing import Any

from harness.types import EngineSetup


def options_of(setup: EngineSetup) -> dict[str, Any]:
    """Return the options of the setup's scheduler for EngineConfig, empty if it has none."""
    return {} if setup.options is None else asdict(setup.options)
