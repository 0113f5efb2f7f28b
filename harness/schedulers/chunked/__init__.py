"""The chunked scheduler: chunked prefill with prefix caching and pausing (docs/scheduling-rules-chunked.md)."""

from harness.schedulers.chunked.bars import ChunkedBars
from harness.schedulers.chunked.events import rule_events
from harness.schedulers.chunked.invariants import RULES, check_invariants
from harness.schedulers.chunked.kinds import kind_of_row
from harness.schedulers.chunked.model import explain, predict
from harness.schedulers.chunked.requirement_ids import requirements_of
from harness.schedulers.chunked.rules import rule_for, rule_for_kinds
from harness.schedulers.drawing import PADDED, UNUSED_WORDS, Drawing
from harness.schedulers.explanation import phrase_or_none, why_impossible
from harness.schedulers.request_tokens import requests_with_tokens
from harness.schedulers.spec import Options, SchedulerSpec, SearchTools
from harness.suites.schema import FORMATS
from harness.types import ChunkingSetup


def _search_tools() -> SearchTools:
    from harness.schedulers.chunked import shrink, workloads

    return SearchTools(workloads.strategy, shrink.smaller, shrink.features)


def _options(options: Options) -> ChunkingSetup:
    return options if isinstance(options, ChunkingSetup) else ChunkingSetup()


DRAWING = Drawing(
    (
        "· waits   c a chunk   C the last chunk   1-9 decodes and holds that many blocks (+: more)   - not in the step",
        "= paused   × ends   … plain decodes omitted",
        f"░ left padding   ▚ found in the cache   ▓ prompt   █ generated   ▒ right padding   - {UNUSED_WORDS}",
        "|A a block that is shared with other requests; equal letters are the same block",
    ),
    takes_turns=True,
    aligned=False,
    legend=PADDED | {"found", "shared", "chunk", "turn", "paused"},
    lane_height=72,  # High enough to show single blocks, because some of them are shared.
)

SPEC = SchedulerSpec(
    format=FORMATS["chunked"],
    reads_tokens=True,
    rule_for=rule_for,
    rule_for_kinds=rule_for_kinds,
    kind_of_row=kind_of_row,
    check_invariants=lambda run, specs, timings, limits, options: check_invariants(
        run, specs, timings, limits, _options(options)
    ),
    impossible=lambda limits, options, *of_case: why_impossible(
        lambda: predict(limits, _options(options), requests_with_tokens(*of_case))
    ),
    explain=lambda limits, options, specs, timings, run, step: phrase_or_none(
        lambda: explain(limits, _options(options), requests_with_tokens(specs, timings, run), step)
    ),
    rule_events=lambda limits, options, *rest: rule_events(limits, _options(options), *rest),
    requirements_of=requirements_of,
    invariants=tuple(RULES.values()),
    bars=lambda sizes, options, rows: ChunkedBars(sizes, ChunkingSetup(**options).chunk_size, rows),
    drawing=DRAWING,
    causes=("paused", "hits", "waiting", "finished", "outputs", "running", "tkv", "used", "reserved"),
    search_tools=_search_tools,
)
