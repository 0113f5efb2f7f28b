"""Folders of the repository that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITES = ROOT / "suites"
DOCS = ROOT / "docs"
DATA = ROOT / "tests" / "data"
