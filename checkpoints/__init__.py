"""Find a model by its name.

    checkpoint = checkpoints.resolve("tiny-granite")
    checkpoints.check_supported(checkpoint)

A name is a built-in name, a folder, or the id of a model on the Hugging Face hub. The result has the model's local
folder and a digest of its content. Importing this package imports neither torch nor transformers.
"""

from checkpoints.errors import CheckpointError
from checkpoints.known import CatalogueEntry, catalogue
from checkpoints.places import cache_folder
from checkpoints.resolve import Checkpoint, resolve, test_models
from checkpoints.supported import check_supported
from checkpoints.tokenizers import load_tokenizer

__all__ = [
    "CatalogueEntry",
    "Checkpoint",
    "CheckpointError",
    "cache_folder",
    "catalogue",
    "check_supported",
    "load_tokenizer",
    "resolve",
    "test_models",
]
