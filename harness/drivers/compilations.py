"""Count the graphs that engines compile during each case, and add them up for reports."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from harness.drivers.base import Session
from harness.drivers.optional import compilation_of
from harness.utils.text import plural


def watch(session: Session) -> Callable[[], dict[str, Any] | None]:
    """Start to count the graphs that an engine compiles during a case. Return a function to call after the case.

    The returned function returns the engine's ``Compilation`` as a dict, except that ``recompiles`` counts only the
    graphs compiled during the case. It returns None if the engine does not compile.
    """
    before = compilation_of(session)

    def seen() -> dict[str, Any] | None:
        now = compilation_of(session)
        if now is None:
            return None
        earlier = before.recompiles if before is not None else 0
        return now._asdict() | {"recompiles": now.recompiles - earlier}

    return seen


def added_up(seen: Iterable[Mapping[str, Any] | None]) -> list[str]:
    """Return a line of text for each backend, with the numbers of engines, compiled graphs and recompiles.

    ``seen`` has the compilations during each case, as the functions that ``watch`` returns report them. A line is, for
    example, ``sendnn: 2 engines, 4 graphs, 0 recompiles after warm-up``. If 2 of the graphs are shared by engines, the
    line has ``4 graphs (2 shared, traced once)``.
    """
    engines: dict[str, dict[str, tuple[int, int]]] = {}
    recompiles: dict[str, int] = {}
    for each in filter(None, seen):
        engines.setdefault(each["backend"], {})[each["engine"]] = each["graphs"], each["shared"]
        recompiles[each["backend"]] = recompiles.get(each["backend"], 0) + each["recompiles"]
    return [
        f"{backend}: {plural(len(of), 'engine')}, {_graphs(of.values())}, "
        f"{plural(recompiles[backend], 'recompile')} after warm-up"
        for backend, of in engines.items()
    ]


def _graphs(of: Iterable[tuple[int, int]]) -> str:
    graphs, shared = (sum(counts) for counts in zip(*of, strict=True))
    return plural(graphs, "graph") + (f" ({shared} shared, traced once)" if shared else "")
