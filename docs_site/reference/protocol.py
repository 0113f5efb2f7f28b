"""The page of the driver protocol, from docstrings; mkdocstrings reads the modules."""

from docs_site.markup import Page

PATH = "reference/driver-protocol.md"
MODULES = {
    "Drivers and sessions": "harness.drivers.base",
    "Optional methods of drivers and sessions": "harness.drivers.optional",
    "Registration": "harness.drivers.registry",
    "Types of requests, limits and rows": "harness.types",
}


def protocol_page() -> Page:
    """Return the page of the driver protocol."""
    parts = [
        "# Driver protocol",
        "The classes and functions with which the harness runs an engine under test. "
        "[Test a plugin](../real-plugin.md) shows how to register a driver.",
        *(f"## {title}\n\n::: {module}" for title, module in MODULES.items()),
    ]
    return Page(PATH, "\n\n".join(parts) + "\n")
