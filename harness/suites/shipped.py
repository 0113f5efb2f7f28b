"""The suites and expectations that come with this package, whether from a wheel or a checkout."""

from functools import cache
from pathlib import Path

PACKAGES = Path(__file__).resolve().parents[2]
"""The folder that the packages of this project are in."""


@cache
def shipped() -> Path:
    """The folder with ``suites`` and ``expectations``: in a wheel it is the package ``spyre_cb``, else the checkout."""
    in_wheel = PACKAGES / "spyre_cb"
    return in_wheel if (in_wheel / "suites").is_dir() else PACKAGES


def is_installed_copy() -> bool:
    """Whether they are part of an installation, where nothing is to be written."""
    return shipped().name == "spyre_cb"


def is_shipped(path: str | Path) -> bool:
    """Whether it is one of those suites, or a folder of them."""
    return Path(str(path).partition("::")[0]).resolve().is_relative_to(shipped() / "suites")


def found(path: Path) -> Path:
    """The path itself, or where that is not there and the shipped suites have one of this name, that one."""
    if path.exists() or path.is_absolute():
        return path
    ours = shipped() / path
    return ours if path.parts[:1] == ("suites",) and ours.exists() else path
