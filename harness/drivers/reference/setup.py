"""An engine's setup as its configuration takes it."""

from dataclasses import asdict
from typing import Any

from harness.types import EngineSetup


def chunking_of(setup: EngineSetup) -> dict[str, Any]:
    """The options of the chunked scheduler as EngineConfig takes them; nothing for others."""
    return {} if setup.chunking is None else asdict(setup.chunking)
