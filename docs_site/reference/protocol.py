"""The page of the driver protocol, from docstrings; mkdocstrings reads the modules."""

from docs_site.markup import Page

PATH = "reference/driver-protocol.md"
MODULES = {
    "Drivers and sessions": "harness.drivers.base",
    "What a driver may have besides": "harness.drivers.optional",
    "Registration": "harness.drivers.registry",
    "Types of requests, limits and rows": "harness.types",
}


def protocol_page() -> Page:
    """Return the page of the driver protocol."""
    parts = [
        "# Driver protocol",
        "What an engine under test provides. [Test a plugin](../real-plugin.md) shows how to register a driver.",
        *(f"## {title}\n\n::: {module}" for title, module in MODULES.items()),
    ]
    return Page(PATH, "\n\n".join(parts) + "\n")
