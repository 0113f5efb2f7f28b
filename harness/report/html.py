"""Load the parts of HTML pages: jinja2 templates, style sheet and script.

Each page includes the style sheet and the script, so that a page is a single file.
"""

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.report.printable import printable


def environment(package: str) -> Environment:
    """Return the jinja2 environment for the templates of a package. Values are escaped unless they are Markup."""
    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def asset(name: str) -> Markup:
    """Return the content of the style sheet or script with the file name ``name``, to be included in a page."""
    return Markup(files("harness.report").joinpath(name).read_text(encoding="utf-8").strip())


def _printable(value: object) -> object:
    """Return a string with control characters escaped, because HTML does not allow them. Return other values as is."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return printable(value)
