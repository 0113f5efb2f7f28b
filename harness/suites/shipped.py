"""Find the suites of this package, and their expected results, in a wheel or in a checkout of the repository."""

from functools import cache
from pathlib import Path

from harness.utils.paths import resolved

PACKAGES = Path(__file__).resolve().parents[2]
"""The folder that contains the packages of this project, such as ``harness``."""


@cache
def shipped() -> Path:
    """Return the folder that contains the folders ``suites`` and ``expectations`` of this package.

    In a wheel this is the package ``spyre_cb``, otherwise the root folder of the checkout.
    """
    in_wheel = PACKAGES / "spyre_cb"
    return in_wheel if (in_wheel / "suites").is_dir() else PACKAGES


def is_installed_copy() -> bool:
    """Return whether the suites are part of an installed wheel, where they must not be changed."""
    return shipped().name == "spyre_cb"


def is_shipped(path: str | Path) -> bool:
    """Return whether ``path`` is a suite of this package, or a folder of suites of this package."""
    return resolved(str(path).partition("::")[0]).is_relative_to(shipped() / "suites")


def found(path: Path) -> Path:
    """Find the suite file or folder that the user has named with ``path``.

    If ``path`` does not exist, but begins with ``suites/`` and names a suite of this package, return the path of the
    package's suite. Otherwise return ``path``.
    """
    if path.exists() or path.is_absolute():
        return path
    ours = shipped() / path
    return ours if path.parts[:1] == ("suites",) and ours.exists() else path
