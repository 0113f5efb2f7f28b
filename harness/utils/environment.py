"""Environment variables that the harness sets before it imports the libraries that read them.

A variable that the user has set keeps its value.
"""

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
"""The values of the environment variables that the user has not set. Subprocesses inherit the variables."""


def set_defaults() -> None:
    """Set each environment variable in ``DEFAULTS`` to its default value, unless it is already set."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
