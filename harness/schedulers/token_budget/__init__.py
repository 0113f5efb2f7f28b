"""The token-budget scheduler, which is vLLM's own scheduler (docs/scheduling-rules-token-budget.md).

A step computes at most ``max_num_batched_tokens`` tokens, the budget. The scheduler has prefix caching and preemption.
"""

from harness.schedulers.bars import block_size_of
from harness.schedulers.drawing import TOKENS_OF_A_CHARACTER, Drawing
from harness.schedulers.explanation import phrase_or_none, why_impossible
from harness.schedulers.request_tokens import requests_with_tokens
from harness.schedulers.spec import Options, SchedulerSpec, SearchTools
from harness.schedulers.token_budget.bars import TokenBudgetBars
from harness.schedulers.token_budget.events import rule_events
from harness.schedulers.token_budget.invariants import RULES, check_invariants
from harness.schedulers.token_budget.kinds import kind_of_row
from harness.schedulers.token_budget.model import explain, predict
from harness.schedulers.token_budget.requirement_ids import requirements_of
from harness.schedulers.token_budget.rules import CAUSES, rule_for, rule_for_kinds
from harness.suites.schema import FORMATS
from harness.types import TokenBudgetSetup


def _search_tools() -> SearchTools:
    from harness.schedulers.token_budget import shrink, workloads

    return SearchTools(workloads.strategy, shrink.smaller, shrink.features)


def _options(options: Options) -> TokenBudgetSetup:
    return options if isinstance(options, TokenBudgetSetup) else TokenBudgetSetup()


DRAWING = Drawing(
    (
        "· waits   c computes tokens that it has   C … and gets the next   1-9 decodes and holds that many blocks",
        "- runs without a part of the budget   ! preempted   × ends   … plain decodes omitted   + 10 blocks or more",
        f"▚ found in the cache   ▓ prompt   █ generated   ▒ free (a character is {TOKENS_OF_A_CHARACTER} tokens or "
        "more)",
        "|A a block that is shared with other requests; equal letters are the same block",
    ),
    takes_turns=True,
    aligned=False,
    legend=frozenset({"found", "shared", "chunk", "turn", "lost"}),
    measure="tokens",
    lane_height=72,  # High enough to show single blocks, because some of them are shared.
)

SPEC = SchedulerSpec(
    format=FORMATS["token_budget"],
    reads_tokens=True,
    causes=CAUSES,
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
    requirements_of=requirements_of,
    invariants=tuple(RULES.values()),
    bars=lambda sizes, options, _: TokenBudgetBars(sizes, block_size_of(options)),
    drawing=DRAWING,
    search_tools=_search_tools,
    rule_events=lambda limits, options, *rest: rule_events(limits, _options(options), *rest),
)
