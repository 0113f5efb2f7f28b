"""Reference outputs: greedy tokens and logprobs by Hugging Face on CPU, stored by content."""

from harness.references.files import ReferenceFileError
from harness.references.store import Oracle
from harness.references.values import TOP, Reference, ReferenceMissingError, ReferenceToken, Wanted

__all__ = ["TOP", "Oracle", "Reference", "ReferenceFileError", "ReferenceMissingError", "ReferenceToken", "Wanted"]
