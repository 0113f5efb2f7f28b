"""Shrink random workloads of the chunked scheduler that ``spyre-cb search`` found to fail."""

from collections.abc import Iterator
from dataclasses import fields, replace

from harness.schedulers.chunked.workloads import ChunkedWorkload
from harness.schedulers.sharing_shrink import features_of, with_less, with_one_fewer
from harness.schedulers.sizes import loosened, tightened
from harness.types import ChunkingSetup

DEFAULT = ChunkingSetup()


def features(workload: ChunkedWorkload) -> tuple[str, ...]:
    """Return the names of the limits and options that differ from the defaults, and what is special in the requests."""
    options = (f.name for f in fields(DEFAULT) if getattr(workload.chunking, f.name) != getattr(DEFAULT, f.name))
    return (*tightened(workload.limits), *options, *features_of(workload.requests))


def smaller(workload: ChunkedWorkload) -> Iterator[ChunkedWorkload]:
    """Yield workloads with one simplification of ``workload`` each, the largest simplification first.

    One request is left out, one limit or option gets its default value, or one number of a request becomes smaller.
    """
    for requests in with_one_fewer(workload.requests):
        yield replace(workload, requests=requests)
    for limits in loosened(workload.limits):
        yield replace(workload, limits=limits)
    for field in fields(DEFAULT):
        default = getattr(DEFAULT, field.name)
        if getattr(workload.chunking, field.name) != default:
            yield replace(workload, chunking=replace(workload.chunking, **{field.name: default}))
    for requests in with_less(workload.requests):
        yield replace(workload, requests=requests)
