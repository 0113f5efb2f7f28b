"""Shrink random workloads of the token-budget scheduler that ``spyre-cb search`` found to fail."""

from collections.abc import Iterator
from dataclasses import fields, replace

from harness.schedulers.sharing_shrink import features_of, with_less, with_one_fewer
from harness.schedulers.sizes import BATCH, CONTEXT
from harness.schedulers.token_budget.workloads import BLOCKS, TokenBudgetWorkload
from harness.types import TokenBudgetSetup

DEFAULT = TokenBudgetSetup()
AS_BUILT = {"max_model_len": CONTEXT, "max_num_seqs": BATCH, "available_blocks": BLOCKS}


def features(workload: TokenBudgetWorkload) -> tuple[str, ...]:
    """Return names for what is not default in ``workload``, such as ``max_num_seqs`` or ``an abort``.

    The result has the limits and options that differ from the defaults, and the features of the requests.
    """
    options = (f.name for f in fields(DEFAULT) if getattr(workload.options, f.name) != getattr(DEFAULT, f.name))
    preempts = ("a preemption",) if any(row.preempted for row in workload.expected()) else ()
    limits = (name for name, built in AS_BUILT.items() if getattr(workload.limits, name) != built)
    return (*limits, *options, *preempts, *features_of(workload.requests))


def smaller(workload: TokenBudgetWorkload) -> Iterator[TokenBudgetWorkload]:
    """Yield copies of ``workload`` with one simplification each. The largest simplifications come first.

    A simplification leaves out one request, gives one limit or option its default value, or makes one number of a
    request smaller.
    """
    for requests in with_one_fewer(workload.requests):
        yield replace(workload, requests=requests)
    for name, built in AS_BUILT.items():
        if getattr(workload.limits, name) != built:
            yield replace(workload, limits=replace(workload.limits, **{name: built}))
    for field in fields(DEFAULT):
        default = getattr(DEFAULT, field.name)
        if getattr(workload.options, field.name) != default:
            yield replace(workload, options=replace(workload.options, **{field.name: default}))
    for requests in with_less(workload.requests):
        yield replace(workload, requests=requests)
