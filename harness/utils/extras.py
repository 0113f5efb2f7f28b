"""The extras of spyre-cb (``pip install 'spyre-cb[engine]'``), and a message about missing packages of an extra."""

from collections.abc import Mapping
from importlib.util import find_spec

ENGINE, SERVER, HTTP_CLIENT, STRUCTURED = "engine", "server", "http", "structured"
EXTRAS: Mapping[str, Mapping[str, str]] = {
    ENGINE: {"torch": "torch", "transformers": "transformers", "ibm-fms": "fms"},
    SERVER: {"fastapi": "fastapi", "uvicorn": "uvicorn", "prometheus-client": "prometheus_client"},
    HTTP_CLIENT: {"httpx": "httpx", "openai": "openai"},
    STRUCTURED: {"llguidance": "llguidance"},
}
"""The required packages of each extra in pyproject.toml, each with the name of its module."""


def why_missing(*extras: str) -> str | None:
    """Return a sentence that says which packages of these extras are missing and how to install them.

    Return None if all packages of these extras are installed.
    """
    missing = {name: extra for extra in extras for name, module in EXTRAS[extra].items() if find_spec(module) is None}
    if not missing:
        return None
    *most, last = missing
    names, verb = (f"{', '.join(most)} and {last}", "are") if most else (last, "is")
    wanted = ",".join(dict.fromkeys(missing.values()))
    return f"{names} {verb} not installed here: pip install 'spyre-cb[{wanted}]'"
