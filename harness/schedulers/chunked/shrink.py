"""Shrink random workloads of the chunked scheduler that ``spyre-cb search`` found to fail."""

from collections.abc import Iterator
from dataclasses import fields, replace

from harness.schedulers.chunked.workloads import ChunkedWorkload
from harness.schedulers.sharing_shrink import features_of, with_less, with_one_fewer
from harness.schedulers.sizes import loosened, tightened
from harness.types import ChunkingSetup

DEFAULT = ChunkingSetup()


def features(workload: ChunkedWorkload) -> tuple[str, ...]:
    """Return names for what is not default in ``workload``, such as ``max_num_seqs`` or ``an abort``.

    The result has the limits and options that differ from the defaults, and the features of the requests.
    """
    options = (f.name for f in fields(DEFAULT) if getattr(workload.chunking, f.name) != getattr(DEFAULT, f.name))
    return (*tightened(workload.limits), *options, *features_of(workload.requests))


def smaller(workload: ChunkedWorkload) -> Iterator[ChunkedWorkload]:
    """Yield copies of ``workload`` with one simplification each. The largest simplifications come first.

    A simplification leaves out one request, gives one limit or option its default value, or makes one number of a
    request smaller.
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
