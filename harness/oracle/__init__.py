"""What is right: greedy tokens and logprobs by Hugging Face on CPU, kept on disk by content."""

from harness.oracle.files import ReferenceFileError
from harness.oracle.store import Oracle, ReferenceMissingError
from harness.oracle.values import TOP, Reference, ReferenceToken, Wanted

__all__ = ["TOP", "Oracle", "Reference", "ReferenceFileError", "ReferenceMissingError", "ReferenceToken", "Wanted"]
