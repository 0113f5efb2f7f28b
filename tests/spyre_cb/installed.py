"""Build wheels of this checkout, and environments in which the wheels are installed."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("checkpoints", "engine", "expectations", "harness", "spyre_cb", "suites")
FILES = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "README.md", "constraints.txt", "pyproject.toml")
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
"""Environment variables of a command that is run in another environment. What is set for this run stays out."""
OUT_OF_REACH = "No matching distribution found|Could not install packages due to an OSError"
"""What pip prints where an index does not have a package, or can't be reached."""
SECONDS = 500


class NotToBeHadError(Exception):
    """Packages cannot be installed on this machine, for example without a network. The message is one sentence."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment without pip, in ``folder``."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def run(self, folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment in a folder, with ``variables`` and few variables of this process."""
        environ = {name: os.environ[name] for name in KEPT if name in os.environ} | {"COLUMNS": "120"} | variables
        environ["PATH"] = f"{self.bin}{os.pathsep}{environ.get('PATH', '')}"
        typed = [str(self.bin / command[0]), *command[1:]]
        return subprocess.run(typed, cwd=folder, env=environ, capture_output=True, text=True, timeout=SECONDS)

    def install(self, *arguments: str) -> None:
        """Install packages into this environment, in the versions of constraints.txt.

        Raises NotToBeHadError if pip cannot find or download a package.
        """
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python")]
        quietly = ("install", "--quiet", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt"))
        # A checkout on PYTHONPATH would count as installed.
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [*pip, *quietly, *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=SECONDS)
        if re.search(OUT_OF_REACH, done.stderr):
            *_, last = (line for line in done.stderr.splitlines() if line.startswith("ERROR: "))
            raise NotToBeHadError(f"pip cannot install {' '.join(arguments)}: {last.removeprefix('ERROR: ')}")
        assert done.returncode == 0, done.stderr


def environment(folder: Path) -> Environment:
    """Make a new virtual environment with the Python version of this process."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=SECONDS)
    return Environment(folder)


def build(folder: Path) -> tuple[Path, Path]:
    """Build this checkout as ``python -m build`` does, and return the paths of the sdist and of the wheel.

    The wheel is built from the sdist. The sdist is built from a copy, because setuptools writes into the source folder.
    """
    copied = folder / "checkout"
    for name in PARTS:
        shutil.copytree(ROOT / name, copied / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*FILES, "setup.py"):
        shutil.copy(ROOT / name, copied / name)
    command = [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(copied)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    return sdist, wheel
