"""Order tests so that each engine starts once, and the results of the eager backend come first."""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from pathlib import Path

import pytest

from harness.pytest_plugin.items import CaseItem
from harness.types import EngineSetup

FIRST = "eager"
"""The backend whose cases run first, because it does not compile."""
LAST_FAILED = "cache/lastfailed"
"""Key in pytest's cache of the tests that failed in the last run."""


def engine_of(item: pytest.Item) -> EngineSetup | Path:
    """Return the key by which items are grouped: their engine, or their file if they have none."""
    return item.expanded.setup if isinstance(item, CaseItem) else item.path


def by_engine(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return items by backend; for each backend, in-process cases by engine, then cases at servers.

    Engines with many cases come first, so that xdist's workers have small groups at the end.
    """
    of_each = [engine_of(item) for item in items]
    engines = {engine: place for place, (engine, _) in enumerate(Counter(of_each).most_common())}
    servers: dict[Hashable, int] = {}
    places = [
        (_stage_place(item), engines[engine], servers.setdefault(_server_of(item), len(servers)))
        for item, engine in zip(items, of_each, strict=True)
    ]
    return [item for _, item in sorted(zip(places, items, strict=True), key=lambda pair: pair[0])]


def failed_first(items: Sequence[pytest.Item], failed: Collection[str]) -> list[pytest.Item]:
    """Return items in the same order, but those that ``failed``, by node id, first."""
    return sorted(items, key=lambda item: item.nodeid not in failed)


def failed_last_time(config: pytest.Config) -> frozenset[str]:
    """Return the node ids in pytest's cache of failed tests."""
    cache = getattr(config, "cache", None)
    return frozenset() if cache is None else frozenset(cache.get(LAST_FAILED, {}))


def groups_of(items: Sequence[pytest.Item], failed: Collection[str]) -> dict[str, str]:
    """Return the group of each test by node id. A group is run in one worker, which starts its engine or its servers.

    Servers are independent of the engine's process, so another worker may run their group.
    """
    names: dict[Hashable, str] = {}
    groups = {}
    for item in items:
        key = (item.nodeid in failed, _at_server(item), engine_of(item))
        groups[item.nodeid] = names.setdefault(key, str(len(names)))
    return groups


def stage_of(item: CaseItem) -> str:
    """Return the stage of a run to which a test belongs, such as ``eager over HTTP``.

    Stages are reported separately.
    """
    return f"{item.backend_label} over HTTP" if _at_server(item) else item.backend_label


def _stage_place(item: pytest.Item) -> tuple[bool, bool]:
    is_first = not isinstance(item, CaseItem) or item.expanded.configuration.backend == FIRST
    return not is_first, _at_server(item)


def _at_server(item: pytest.Item) -> bool:
    return isinstance(item, CaseItem) and item.expanded.configuration.entry_point == "http"


def _server_of(item: pytest.Item) -> Hashable:
    need = item.server_need if isinstance(item, CaseItem) else None
    return None if need is None else need.key
