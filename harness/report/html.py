"""Create HTML pages from jinja2 templates next to the code. Each page is one file without external resources."""

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.report.printable import printable


def environment(package: str) -> Environment:
    """Return the template environment of a package. Values are escaped unless they are Markup."""
    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def asset(name: str) -> Markup:
    """Return a style sheet or script of the pages."""
    return Markup(files("harness.report").joinpath(name).read_text(encoding="utf-8").strip())


def _printable(value: object) -> object:
    """Return text with control characters, which HTML does not allow, as escapes."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return printable(value)
