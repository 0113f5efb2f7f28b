"""The suites and expectations that come with this package, whether from a wheel or a checkout."""

from functools import cache
from pathlib import Path

PACKAGES = Path(__file__).resolve().parents[2]
"""The folder that the packages of this project are in."""


@cache
def shipped() -> Path:
    """Return the folder with ``suites`` and ``expectations``: package ``spyre_cb`` of a wheel, else the checkout."""
    in_wheel = PACKAGES / "spyre_cb"
    return in_wheel if (in_wheel / "suites").is_dir() else PACKAGES


def is_installed_copy() -> bool:
    """Return whether the suites are part of an installation, which must not be changed."""
    return shipped().name == "spyre_cb"


def is_shipped(path: str | Path) -> bool:
    """Return whether a path is one of the shipped suites, or a folder of them."""
    return Path(str(path).partition("::")[0]).resolve().is_relative_to(shipped() / "suites")


def found(path: Path) -> Path:
    """Return the path or, if it does not exist, the shipped suite with this name."""
    if path.exists() or path.is_absolute():
        return path
    ours = shipped() / path
    return ours if path.parts[:1] == ("suites",) and ours.exists() else path
