"""Tests that pytest collects the same tests of the plugin vllm-spyre with this package installed as without it.

They need the environment that ``make conformance-vllm`` builds, which has this package, and the plugin's source
release.
"""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
RELEASE = "vllm-spyre==1.6.1"
SECONDS = 500


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return the unpacked source release of vllm-spyre, which contains the plugin's tests."""
    if not PYTHON.exists():
        pytest.skip("vllm-spyre is not here: make venv-vllm PLUGIN=vllm-spyre installs it")
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", RELEASE]
    done = subprocess.run([*fetch, "--dest", str(tmp_path)], capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        pytest.skip(f"the source release of {RELEASE} can't be downloaded here: {done.stderr.splitlines()[-1]}")
    (release,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(release) as packed:
        packed.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("vllm_spyre-*/")
    return unpacked


def test_its_tests_are_collected_as_without_this_package(checkout: Path) -> None:
    with_us = _collected(checkout, "tests")
    without = _collected(checkout, "-p", "no:spyre-cb", "tests")
    assert with_us == without
    assert len([line for line in without if "::" in line]) > 400


def _collected(checkout: Path, *arguments: str) -> list[str]:
    """Return the lines that ``pytest --collect-only`` prints, without the duration and memory addresses.

    Modules whose packages are not installed give the same collection errors in every run.
    """
    command = [str(PYTHON), "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode in (0, 2), done.stdout + done.stderr
    return re.sub(r"\d+\.\d\ds|0x[0-9a-f]+", "", done.stdout).splitlines()
