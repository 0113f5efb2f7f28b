"""Entry point of installations that are older than ``spyre_cb/pytest_entry.py``."""

from spyre_cb.pytest_entry import (
    pytest_addoption,
    pytest_configure,
    pytest_load_initial_conftests,
    pytest_xdist_auto_num_workers,
)

__all__ = ["pytest_addoption", "pytest_configure", "pytest_load_initial_conftests", "pytest_xdist_auto_num_workers"]
