"""The pytest plugin under its old module name.

Editable installations that are older than ``spyre_cb/pytest_entry.py`` still name this module as their entry point.
"""

from spyre_cb.pytest_entry import (
    pytest_addoption,
    pytest_configure,
    pytest_load_initial_conftests,
    pytest_xdist_auto_num_workers,
)

__all__ = ["pytest_addoption", "pytest_configure", "pytest_load_initial_conftests", "pytest_xdist_auto_num_workers"]
