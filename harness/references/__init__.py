"""Compute, store and look up reference outputs: greedy tokens and their logprobs by Hugging Face on CPU."""

from harness.references.files import ReferenceFileError
from harness.references.store import Oracle
from harness.references.values import TOP, Reference, ReferenceMissingError, ReferenceToken, Wanted

__all__ = ["TOP", "Oracle", "Reference", "ReferenceFileError", "ReferenceMissingError", "ReferenceToken", "Wanted"]
