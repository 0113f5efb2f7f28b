"""How pages are made: jinja2 templates that stand beside the code, with everything in one file and nothing fetched."""

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.report.printable import printable


def environment(package: str) -> Environment:
    """Templates of a package. What they are given is text, unless it is Markup."""
    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def asset(name: str) -> Markup:
    """A style or a script of the pages."""
    return Markup(files("harness.report").joinpath(name).read_text(encoding="utf-8").strip())


def _printable(value: object) -> object:
    """Control characters, which HTML cannot hold, as escapes."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return printable(value)
