"""Environment variables of libraries that the harness sets before it imports them. Values of the user are kept."""

import os
from collections.abc import Mapping

DEFAULTS: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # By default transformers reads weights in several threads. In a forked process they race to start torch's pool of
    # threads, and torch then raises "Invalid thread pool".
    "HF_DEACTIVATE_ASYNC_LOAD": "1",
}
"""The variables with their values. Subprocesses inherit them."""


def set_defaults() -> None:
    """Set those of the variables in ``DEFAULTS`` that are not set."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
