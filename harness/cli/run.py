"""``spyre-cb run``: run suites with pytest.

Unlike ``python -m pytest``, this command also finds the suites of the installed package. Its options have shorter
names, such as ``--html`` for pytest's ``--cb-html``.
"""

import os
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.cli.arguments import CommandError, Subparsers, add_command
from harness.suites.discovery import default_suites
from harness.suites.shipped import PACKAGES, found, is_shipped, shipped
from harness.utils.paths import resolved
from spyre_cb.options import OPTIONS, Option

_EXAMPLES = """\
  spyre-cb run -m "cb and cpu" --html page.html
  spyre-cb run mine --driver vllm --isolation engine -n 2 -- -x -v
"""
_OWN_SETTINGS = PACKAGES / "spyre_cb" / "pytest.ini"


def add_to(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "run", run, "run the suites of this package, or your own", _EXAMPLES)
    parser.usage = "spyre-cb run [PATH ...] [-m EXPR] [-k EXPR] [-n N] [OPTION ...] [-- PYTEST'S OWN OPTIONS]"
    what = "suite files, folders, or FILE::CASE (default: the folder suites, else the suites of this package)"
    parser.add_argument("paths", nargs="*", metavar="PATH", help=what)
    parser.add_argument("-m", dest="markers", metavar="EXPR", help="only tests with these markers: 'cpu and not http'")
    parser.add_argument("-k", dest="names", metavar="EXPR", help="only tests with these names")
    many = "number of worker processes; auto: one for each core"
    parser.add_argument("-n", dest="workers", type=_workers, metavar="N", help=many)
    groups = {name: parser.add_argument_group(name) for name in dict.fromkeys(option.group for option in OPTIONS)}
    for each in OPTIONS:
        option = replace(each, help=each.help.replace("--cb-", "--"))
        option.add_to(groups[option.group].add_argument, f"--{option.name}", _as_typed(option))


def apart(typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments of ``spyre-cb run`` at ``--``. Return the arguments before ``--``, and those for pytest."""
    if typed[:1] != ["run"] or "--" not in typed:
        return list(typed), []
    at = list(typed).index("--")
    return list(typed[:at]), list(typed[at + 1 :])


def run(arguments: Namespace) -> int:
    """Replace this process by pytest. Raises CommandError for a path that does not exist."""
    command = [sys.executable, "-m", "pytest", *pytest_arguments(arguments)]
    sys.stdout.flush()
    os.execv(sys.executable, command)


def pytest_arguments(arguments: Namespace) -> list[str]:
    """Convert the arguments of ``spyre-cb run`` to arguments of pytest.

    Raises CommandError for a path that does not exist.
    """
    paths = [_resolved(path) for path in arguments.paths or [str(default_suites())]]
    selection = (("-m", arguments.markers), ("-k", arguments.names), ("-n", arguments.workers))
    chosen = [word for flag, value in selection if value is not None for word in (flag, value)]
    given = [word for option in OPTIONS for word in _for_pytest(option, getattr(arguments, option.dest))]
    return [*_settings(paths), *chosen, *given, *arguments.for_pytest, *paths]


def _settings(paths: Sequence[str]) -> list[str]:
    """Return the pytest arguments that are needed to run suites of the installed package from any folder.

    With these arguments, test ids have the paths inside the package, and the pytest configuration of the current
    project is not used. Return an empty list if ``paths`` are other suites.
    """
    home = shipped()
    files = [resolved(path.partition("::")[0]) for path in paths]
    if Path.cwd().is_relative_to(home) or not all(map(is_shipped, files)):
        return []
    return [f"--rootdir={home}", "-c", str(_OWN_SETTINGS), "-o", f"cache_dir={Path.cwd() / '.pytest_cache'}"]


def _resolved(path: str) -> str:
    name, colons, case = path.partition("::")
    if not name:
        raise CommandError(f"PATH must be the name of a file or folder, not {path!r}")
    there = found(Path(name))
    if not there.exists():
        raise CommandError(f"{name}: no such file or folder, neither here nor among the suites of this package")
    return f"{there}{colons}{case}"


def _workers(text: str) -> str:
    """Check a number of worker processes for argparse, and return it unchanged.

    Negative numbers are refused here, because xdist treats -1 as 0.
    """
    if text not in ("auto", "logical") and not (text.isascii() and text.isdecimal()):
        raise ArgumentTypeError(f"must be a whole number of at least 0, or auto, not {text!r}")
    return text


def _for_pytest(option: Option, value: object) -> Iterator[str]:
    if option.flag:
        yield from [option.in_pytest] if value else []
    elif option.repeated:
        assert isinstance(value, list | None)
        yield from (f"{option.in_pytest}={each}" for each in value or ())
    elif value is not None and value != option.default:
        yield f"{option.in_pytest}={value}"


def _as_typed(option: Option) -> Callable[[str], str]:
    """Return an argparse type that checks an option's value and returns it unchanged.

    Its error messages name the option as in ``spyre-cb run``, for example ``--html`` and not ``--cb-html``.
    """

    def checked(text: str) -> str:
        option.parsed(text)
        return text

    return checked
