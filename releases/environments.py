"""Create the Python environment of a release of a plugin, and remove old environments if there are too many.

    python -m releases.environments vllm-spyre==1.4.3 --folder .venv-releases --most 2

The Makefile runs this module before any environment exists, so the module uses only the standard library.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from releases.pins import REQUIREMENTS, ROOT, PinsError, Release, find

TORCH = "torch==2.13.0"
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
"""Do not compile all modules to bytecode during the installation: most of them are never imported."""
LIST = "packages.txt"
"""Name of the file with the packages of an environment. It is written last: an environment without it is incomplete."""


def environment_of(release: Release, folder: Path) -> Path:
    """Return the folder of a release's environment."""
    return folder / f"{release.plugin}-{release.version}"


def is_complete(environment: Path, release: Release) -> bool:
    """Return whether an environment is completely installed, with the packages that the release has now."""
    written = environment / LIST
    return written.is_file() and written.read_text(encoding="utf-8") == _list(release)


def make_room(folder: Path, number: int, wanted: Path) -> list[Path]:
    """Remove the least recently used environments in ``folder``, so that at most ``number`` exist including ``wanted``.

    ``wanted`` is the folder of the environment to create or to use. Return the folders of the removed environments.
    """
    others = [each for each in folder.iterdir() if each.is_dir() and each != wanted] if folder.is_dir() else []
    others.sort(key=_last_used)
    gone = others[: max(0, len(others) + 1 - number)]
    for each in gone:
        shutil.rmtree(each)
    return gone


def create(release: Release, environment: Path) -> None:
    """Create an environment. Raises CalledProcessError if a package can't be installed."""
    if environment.exists():
        shutil.rmtree(environment)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = str(environment / "bin/python")
    packages = environment / "wanted.txt"
    packages.write_text(_list(release), encoding="utf-8")
    harness = str(REQUIREMENTS / "harness.txt")
    subprocess.run([python, *PIP, TORCH], check=True)
    subprocess.run([python, *PIP, "--no-deps", "-r", str(packages), "-r", harness], check=True)
    subprocess.run([python, *PIP, "--no-deps", "-e", str(ROOT)], check=True)
    packages.rename(environment / LIST)


def _list(release: Release) -> str:
    return "".join(f"{package}\n" for package in release.packages())


def _last_used(environment: Path) -> float:
    written = environment / LIST
    return written.stat().st_mtime if written.is_file() else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Return the exit status: 2 for a release that the table does not have."""
    parser = argparse.ArgumentParser(prog="python -m releases.environments", description="environment of a release")
    parser.add_argument("release", help="such as vllm-spyre==1.4.3")
    parser.add_argument("--folder", type=Path, default=Path(".venv-releases"))
    parser.add_argument("--most", type=int, default=2, help="maximum number of environments to keep")
    given = parser.parse_args(arguments)
    try:
        release = find(given.release)
    except PinsError as error:
        print(error, file=sys.stderr)
        return 2
    environment = environment_of(release, given.folder)
    if not is_complete(environment, release):
        for gone in make_room(given.folder, given.most, environment):
            print(f"removed {gone}, the least recently used environment: at most {given.most} are kept (RELEASES_KEPT)")
        try:
            create(release, environment)
        except subprocess.CalledProcessError as error:
            failed = " ".join(error.cmd[1:])
            print(f"{release.name}: the environment can't be created: {failed} failed", file=sys.stderr)
            return 1
    (environment / LIST).touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
