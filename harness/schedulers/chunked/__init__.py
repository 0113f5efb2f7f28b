"""Chunked prefill with prefix caching and pausing (docs/scheduling-rules-chunked.md)."""

from harness.schedulers.chunked.bars import ChunkedBars
from harness.schedulers.chunked.explain import by_the_rules, impossible
from harness.schedulers.chunked.invariants import check_invariants
from harness.schedulers.chunked.requirements import requirements_of
from harness.schedulers.chunked.rows import kind_of_row
from harness.schedulers.chunked.rules import rule_for, rule_for_kinds
from harness.schedulers.spec import Options, SchedulerSpec, SearchTools
from harness.suites.schema import CHUNKED_COLUMNS
from harness.types import ChunkingSetup


def _search_tools() -> SearchTools:
    from harness.schedulers.chunked import shrink, workloads

    return SearchTools(workloads.strategy, shrink.smaller, shrink.takes)


def _options(options: Options) -> ChunkingSetup:
    return options or ChunkingSetup()


SPEC = SchedulerSpec(
    name="chunked",
    columns=CHUNKED_COLUMNS,
    rule_for=rule_for,
    rule_for_kinds=rule_for_kinds,
    kind_of_row=kind_of_row,
    check_invariants=lambda run, specs, timings, limits, options: check_invariants(
        run, specs, timings, limits, _options(options)
    ),
    impossible=lambda limits, options, *rest: impossible(limits, _options(options), *rest),
    explain=lambda limits, options, *rest: by_the_rules(limits, _options(options), *rest),
    requirements_of=requirements_of,
    bars=lambda sizes, chunk_size, rows: ChunkedBars(sizes, chunk_size or ChunkingSetup().chunk_size, rows),
    search_tools=_search_tools,
)
