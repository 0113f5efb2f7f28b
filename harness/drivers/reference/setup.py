"""An engine's setup as its configuration takes it."""

from dataclasses import asdict
from typing import Any

from harness.types import EngineSetup


def options_of(setup: EngineSetup) -> dict[str, Any]:
    """The options of the setup's scheduler as EngineConfig takes them; nothing where it has none."""
    return {} if setup.options is None else asdict(setup.options)
