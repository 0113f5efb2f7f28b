"""The registry of drivers by name. The package of an engine is imported only when its driver is used.

Drivers of this project are in ``BUILT_IN``. Another package registers a driver with an entry point in its metadata:

    [project.entry-points."spyre_cb.drivers"]
    my-engine = "my_package.driver:make"

In both cases the registered object is a function that takes ``DriverOptions`` and returns a driver (``base.py``), or
raises UnavailableError with the reason and what to do.
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
"""The drivers of this project: the function that returns the driver, as ``module:function``, by the driver's name."""
UNSTEPPED = frozenset({"simulation", OVER_HTTP})
"""Names of drivers that ``spyre-cb trace`` and ``spyre-cb search`` can't use.

``openai-http`` can't observe steps. ``simulation`` runs no model; the two commands have the option ``--simulate`` for
this.
"""
REQUIRED = ("name", "capabilities", "describe", "unavailable", "open")


@dataclass(frozen=True)
class DriverOptions:
    """The options of drivers, from the command line.

    With ``simulate``, the driver runs only the scheduler, without a model. ``attention`` is the attention kernel of the
    reference engine. ``server_url``, ``serve`` and ``server_shape`` are options of the driver ``openai-http``, as given
    by the user, without any check.
    """

    simulate: bool = False
    attention: str | None = None
    server_url: str | None = None
    serve: str | None = None
    server_shape: str | None = None


class DriverOptionError(UnavailableError):
    """The value of a driver option is invalid.

    ``option`` is the option's name in ``DriverOptions`` with dashes in place of underscores, such as ``server-url``.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


Make = Callable[[DriverOptions], Driver]


def driver_names(*, stepped: bool = False) -> tuple[str, ...]:
    """Return the names of all registered drivers.

    With ``stepped``, leave out the drivers that ``spyre-cb trace`` and ``spyre-cb search`` can't use.
    """
    names = (*BUILT_IN, *sorted({entry.name for entry in entry_points(group=GROUP)} - set(BUILT_IN)))
    return tuple(name for name in names if not (stepped and name in UNSTEPPED))


def make_driver(name: str, options: DriverOptions | None = None) -> Driver:
    """Return the driver named ``name``. With ``options`` None, it gets the default options.

    Raises UnavailableError if there is no such driver, or if its engine can't run on this machine.
    """
    options = options or DriverOptions()
    if name in BUILT_IN:
        module, _, function = BUILT_IN[name].partition(":")
        make: Make = getattr(import_module(module), function)
        return make(options)
    return _made_elsewhere(name, options)


def unknown(name: str, known: tuple[str, ...]) -> str:
    """Return an error message for an unknown driver name.

    It suggests the most similar name in ``known``, if there is one, and lists all of ``known``.
    """
    close = get_close_matches(name, known, 1)
    meant = f" did you mean {close[0]}?" if close else ""
    return f"no driver has the name {name!r};{meant} the drivers are {', '.join(known)}"


def _made_elsewhere(name: str, options: DriverOptions) -> Driver:
    found = tuple(entry_points(group=GROUP, name=name))
    if not found:
        raise UnavailableError(unknown(name, driver_names()))
    if len(found) > 1:
        packages = " and ".join(map(_package, found))
        raise UnavailableError(f"more than one package registers the driver {name}: {packages}; uninstall all but one")
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
        what = f"{entry.value} of {_package(entry)} returns a driver without the attributes {', '.join(missing)}"
        raise UnavailableError(what)
    if made.name != name:
        what = f"{entry.value} of {_package(entry)} returns a driver whose name is {made.name!r}, not {name!r}"
        raise UnavailableError(what)
    driver: Driver = made
    return driver


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module
