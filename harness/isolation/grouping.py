"""The order of tests in which each engine starts once."""

from collections.abc import Hashable, Sequence
from pathlib import Path

import pytest

from harness.items import CaseItem
from harness.types import EngineSetup


def engine_of(item: pytest.Item) -> EngineSetup | Path:
    """What items share that should run one after the other: an engine, or a file where they have none."""
    return item.expanded.setup if isinstance(item, CaseItem) else item.path


def by_engine(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """In the order in which engines first come up; of one engine the cases in process first, then server by server."""
    engines: dict[Hashable, int] = {}
    servers: dict[Hashable, int] = {}
    places = [
        (engines.setdefault(engine_of(item), len(engines)), servers.setdefault(_server_of(item), len(servers)))
        for item in items
    ]
    return [item for _, item in sorted(zip(places, items, strict=True), key=lambda pair: pair[0])]


def _server_of(item: pytest.Item) -> Hashable:
    need = item.server_need if isinstance(item, CaseItem) else None
    return None if need is None else need.key
