"""Names of models resolve in one place: here.

    checkpoint = checkpoints.resolve("tiny-granite")
    checkpoints.check_supported(checkpoint)

A name is a built-in one, a folder, or a hub id; what comes back is a folder on this disk and the
digest of what is in it. Importing this package loads neither torch nor transformers.
"""

from checkpoints.errors import CheckpointError
from checkpoints.known import CatalogueEntry, catalogue
from checkpoints.places import cache_folder
from checkpoints.resolve import Checkpoint, resolve, test_models
from checkpoints.supported import check_supported

__all__ = [
    "CatalogueEntry",
    "Checkpoint",
    "CheckpointError",
    "cache_folder",
    "catalogue",
    "check_supported",
    "resolve",
    "test_models",
]
