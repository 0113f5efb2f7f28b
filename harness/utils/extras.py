"""What this package is installed with: its extras, and what to install where one is missing."""

from collections.abc import Mapping
from importlib.util import find_spec

ENGINE, SERVER, HTTP_CLIENT, STRUCTURED = "engine", "server", "http", "structured"
EXTRAS: Mapping[str, Mapping[str, str]] = {
    ENGINE: {"torch": "torch", "transformers": "transformers", "ibm-fms": "fms"},
    SERVER: {"fastapi": "fastapi", "uvicorn": "uvicorn", "prometheus-client": "prometheus_client"},
    HTTP_CLIENT: {"httpx": "httpx", "openai": "openai"},
    STRUCTURED: {"llguidance": "llguidance"},
}
"""By extra of pyproject.toml: the packages that cannot be done without, with the module that each is."""


def why_missing(*extras: str) -> str | None:
    """Return which packages of these extras are missing and how to install them, as one sentence, or None."""
    missing = {name: extra for extra in extras for name, module in EXTRAS[extra].items() if find_spec(module) is None}
    if not missing:
        return None
    *most, last = missing
    names, verb = (f"{', '.join(most)} and {last}", "are") if most else (last, "is")
    wanted = ",".join(dict.fromkeys(missing.values()))
    return f"{names} {verb} not installed here: pip install 'spyre-cb[{wanted}]'"
