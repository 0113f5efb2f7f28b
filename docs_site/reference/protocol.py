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
    """Generate the page of the driver protocol. mkdocstrings replaces its lines ``::: MODULE`` by docstrings."""
    parts = [
        "# Driver protocol",
        "A driver is the object with which the harness runs an engine under test. This page is for authors of drivers: "
        "it describes the classes and functions that a driver implements or uses. "
        "[Test a plugin](../real-plugin.md#a-driver-of-your-own) shows how to register a driver.",
        *(f"## {title}\n\n::: {module}" for title, module in MODULES.items()),
    ]
    return Page(PATH, "\n\n".join(parts) + "\n")
