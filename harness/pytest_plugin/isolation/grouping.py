"""Order and group tests so that each engine is started once, and so that the tests of the eager backend run first."""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from pathlib import Path

import pytest

from harness.pytest_plugin.items import CaseItem
from harness.types import EngineSetup

FIRST = "eager"
"""The backend whose tests run first. It gives results soonest, because it does not compile the model."""
LAST_FAILED = "cache/lastfailed"
"""Key in pytest's cache under which pytest stores the tests that failed in the last run."""


def engine_of(item: pytest.Item) -> EngineSetup | Path:
    """Return a value that is equal for tests that should run one after the other.

    This is the setup of the test's engine or, if the test is not a case of a suite, the file of the test.
    """
    return item.expanded.setup if isinstance(item, CaseItem) else item.path


def by_engine(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Sort tests: the eager backend first, and for each backend in-process tests before tests over HTTP.

    Within each backend, tests of the same engine and of the same server are next to each other. Engines with many tests
    come first, so that the last groups that xdist distributes are small.
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
    """Move the tests whose node ids are in ``failed`` to the front. Otherwise keep the order."""
    return sorted(items, key=lambda item: item.nodeid not in failed)


def failed_last_time(config: pytest.Config) -> frozenset[str]:
    """Return the node ids of the tests that failed in the last run, from pytest's cache."""
    cache = getattr(config, "cache", None)
    return frozenset() if cache is None else frozenset(cache.get(LAST_FAILED, {}))


def groups_of(items: Sequence[pytest.Item], failed: Collection[str]) -> dict[str, str]:
    """Return the name of each test's group, by node id. One of xdist's workers runs all tests of a group.

    In-process tests and HTTP tests of the same engine are in different groups, because a server is a separate process,
    which another worker can start. Tests whose node ids are in ``failed`` are in groups of their own.
    """
    names: dict[Hashable, str] = {}
    groups = {}
    for item in items:
        key = (item.nodeid in failed, _at_server(item), engine_of(item))
        groups[item.nodeid] = names.setdefault(key, str(len(names)))
    return groups


def stage_of(item: CaseItem) -> str:
    """Return the stage of a run to which a test belongs, such as ``eager over HTTP``. See ``Stages``."""
    return f"{item.backend_label} over HTTP" if _at_server(item) else item.backend_label


def _stage_place(item: pytest.Item) -> tuple[bool, bool]:
    is_first = not isinstance(item, CaseItem) or item.expanded.configuration.backend == FIRST
    return not is_first, _at_server(item)


def _at_server(item: pytest.Item) -> bool:
    return isinstance(item, CaseItem) and item.expanded.configuration.entry_point == "http"


def _server_of(item: pytest.Item) -> Hashable:
    need = item.server_need if isinstance(item, CaseItem) else None
    return None if need is None else need.key
