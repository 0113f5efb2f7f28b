"""Tests of the line of the report that says how many graphs the engines compiled."""

from harness.drivers.compilations import added_up


def seen(engine: str, graphs: int, recompiles: int, shared: int) -> dict[str, object]:
    return {
        "engine": engine,
        "backend": "sendnn (simulated)",
        "graphs": graphs,
        "recompiles": recompiles,
        "shared": shared,
    }


def test_engines_count_once_and_recompiles_in_each_case() -> None:
    cases = [seen("a", 2, 0, 0), None, seen("a", 2, 1, 0)]
    assert added_up(cases) == ["sendnn (simulated): 1 engine, 2 graphs, 1 recompile after warm-up"]


def test_graphs_that_were_there_already_are_named() -> None:
    cases = [seen("a", 2, 0, 0), seen("b", 2, 0, 1), seen("c", 2, 0, 2)]
    assert added_up(cases) == [
        "sendnn (simulated): 3 engines, 6 graphs (3 shared, traced once), 0 recompiles after warm-up"
    ]
