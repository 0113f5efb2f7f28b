"""The registry of drivers, by name. No engine is imported before it is used.

A driver of this project is a line in ``BUILT_IN``. Another package registers a driver in its metadata:

    [project.entry-points."spyre_cb.drivers"]
    my-engine = "my_package.driver:make"

In both cases it is a function of ``DriverOptions`` that returns a driver (``base.py``), or raises UnavailableError with
the reason and what to do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harness.drivers.base import Driver, UnavailableError

GROUP = "spyre_cb.drivers"
DEFAULT = "reference"
OVER_HTTP = "openai-http"
BUILT_IN: Mapping[str, str] = {
    DEFAULT: "harness.drivers.reference:make",
    "simulation": "harness.drivers.reference:make_simulation",
    "vllm": "harness.drivers.vllm:make",
    OVER_HTTP: "harness.drivers.openai_http:make",
}
"""By the name that users type: where the function is."""
UNSTEPPED = frozenset({"simulation", OVER_HTTP})
"""Of these there is no engine with a model whose steps a command could show."""
REQUIRED = ("name", "capabilities", "describe", "unavailable", "open")


@dataclass(frozen=True)
class DriverOptions:
    """Options of drivers. ``simulate``: schedules only, without a model.

    ``attention`` is for the reference engine; the others are for ``openai-http``, as typed.
    """

    simulate: bool = False
    attention: str | None = None
    server_url: str | None = None
    serve: str | None = None
    server_shape: str | None = None


class DriverOptionError(UnavailableError):
    """An invalid option of a driver. ``option`` is its name in ``DriverOptions``, with dashes."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


Make = Callable[[DriverOptions], Driver]


def driver_names(*, stepped: bool = False) -> tuple[str, ...]:
    """Return all registered names of drivers; with ``stepped`` only those whose engines commands can step."""
    names = (*BUILT_IN, *sorted({entry.name for entry in entry_points(group=GROUP)} - set(BUILT_IN)))
    return tuple(name for name in names if not (stepped and name in UNSTEPPED))


def make_driver(name: str, options: DriverOptions | None = None) -> Driver:
    """Return the driver with that name.

    Raises UnavailableError if there is none, or its engine is not available here.
    """
    options = options or DriverOptions()
    if name in BUILT_IN:
        module, _, function = BUILT_IN[name].partition(":")
        make: Make = getattr(import_module(module), function)
        return make(options)
    return _made_elsewhere(name, options)


def unknown(name: str, known: tuple[str, ...]) -> str:
    """Return one sentence: the driver does not exist, a close match, and all names."""
    close = get_close_matches(name, known, 1)
    meant = f" did you mean {close[0]}?" if close else ""
    return f"no driver has the name {name!r};{meant} there are {', '.join(known)}"


def _made_elsewhere(name: str, options: DriverOptions) -> Driver:
    found = tuple(entry_points(group=GROUP, name=name))
    if not found:
        raise UnavailableError(unknown(name, driver_names()))
    if len(found) > 1:
        raise UnavailableError(f"more than one package registers it: {' and '.join(map(_package, found))}")
    entry = found[0]
    try:
        made: Any = entry.load()(options)
    except UnavailableError:
        raise
    except Exception as error:
        what = f"{entry.value} of {_package(entry)} cannot be loaded: {type(error).__name__}: {error}"
        raise UnavailableError(what) from error
    missing = [attribute for attribute in REQUIRED if not hasattr(made, attribute)]
    if missing:
        raise UnavailableError(f"{entry.value} of {_package(entry)} makes a driver without {', '.join(missing)}")
    if made.name != name:
        raise UnavailableError(f"{entry.value} of {_package(entry)} makes a driver with the name {made.name!r}")
    driver: Driver = made
    return driver


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module
