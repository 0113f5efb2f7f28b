"""The order of tests in which each engine starts once, and the verdict about the eager backend comes first."""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from pathlib import Path

import pytest

from harness.pytest_plugin.items import CaseItem
from harness.types import EngineSetup

FIRST = "eager"
"""The backend whose cases run before those of others: it is there at once, where others compile."""
LAST_FAILED = "cache/lastfailed"
"""Where pytest's cache has the tests that failed in the last run."""


def engine_of(item: pytest.Item) -> EngineSetup | Path:
    """What items share that should run one after the other: an engine, or a file where they have none."""
    return item.expanded.setup if isinstance(item, CaseItem) else item.path


def by_engine(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Backend by backend, of each the cases in process first, engine by engine, and then those at servers.

    Engines of many cases come before those of few, so that xdist's workers have small ones to end with.
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
    """In the same order, but for those that ``failed``, by node id: they come before the rest."""
    return sorted(items, key=lambda item: item.nodeid not in failed)


def failed_last_time(config: pytest.Config) -> frozenset[str]:
    """By node id, as pytest's cache has it."""
    cache = getattr(config, "cache", None)
    return frozenset() if cache is None else frozenset(cache.get(LAST_FAILED, {}))


def groups_of(items: Sequence[pytest.Item], failed: Collection[str]) -> dict[str, str]:
    """For each test, by node id, the group that is to run in one worker: what starts one engine, or the servers of one.

    Servers need nothing of the engine's process, so that another worker may have them.
    """
    names: dict[Hashable, str] = {}
    groups = {}
    for item in items:
        key = (item.nodeid in failed, _at_server(item), engine_of(item))
        groups[item.nodeid] = names.setdefault(key, str(len(names)))
    return groups


def stage_of(item: CaseItem) -> str:
    """The part of a run that a test belongs to, whose verdict is of interest on its own: ``eager over HTTP``."""
    return f"{item.backend_label} over HTTP" if _at_server(item) else item.backend_label


def _stage_place(item: pytest.Item) -> tuple[bool, bool]:
    is_first = not isinstance(item, CaseItem) or item.expanded.configuration.backend == FIRST
    return not is_first, _at_server(item)


def _at_server(item: pytest.Item) -> bool:
    return isinstance(item, CaseItem) and item.expanded.configuration.entry_point == "http"


def _server_of(item: pytest.Item) -> Hashable:
    need = item.server_need if isinstance(item, CaseItem) else None
    return None if need is None else need.key
