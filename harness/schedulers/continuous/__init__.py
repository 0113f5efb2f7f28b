"""The continuous scheduler, with which all requests of a batch have the same tkv (docs/scheduling-rules.md)."""

from harness.schedulers.continuous.bars import ContinuousBars
from harness.schedulers.continuous.events import rule_events
from harness.schedulers.continuous.invariants import RULES, check_invariants
from harness.schedulers.continuous.kinds import kind_of_row
from harness.schedulers.continuous.model import explain, predict
from harness.schedulers.continuous.planned import planned_requests
from harness.schedulers.continuous.requirement_ids import requirements_of
from harness.schedulers.continuous.rules import rule_for, rule_for_kinds
from harness.schedulers.drawing import UNUSED_WORDS, Drawing
from harness.schedulers.explanation import phrase_or_none, why_impossible
from harness.schedulers.spec import SchedulerSpec, SearchTools
from harness.suites.schema import FORMATS


def _search_tools() -> SearchTools:
    from harness.schedulers.continuous import shrink, workloads

    return SearchTools(workloads.strategy, shrink.smaller, shrink.features)


# The scheduler has no options, so the lambdas do not pass any on.
SPEC = SchedulerSpec(
    format=FORMATS["continuous"],
    reads_tokens=False,
    rule_for=rule_for,
    rule_for_kinds=rule_for_kinds,
    kind_of_row=kind_of_row,
    check_invariants=lambda run, specs, timings, limits, _: check_invariants(run, specs, timings, limits),
    impossible=lambda limits, _, *of_case: why_impossible(lambda: predict(limits, planned_requests(*of_case))),
    explain=lambda limits, _, specs, timings, run, step: phrase_or_none(
        lambda: explain(limits, planned_requests(specs, timings, run), step)
    ),
    rule_events=lambda limits, _, specs, timings, run: rule_events(limits, specs, timings, run),
    requirements_of=requirements_of,
    invariants=tuple(RULES.values()),
    bars=lambda sizes, *_: ContinuousBars(sizes),
    causes=("waiting", "finished", "outputs", "running", "tkv", "reserved", "used"),
    drawing=Drawing(
        (
            "· waits   P is prefilled   1-9 decodes and holds that many blocks (+: more)   × ends   "
            "… plain decodes omitted",
            f"░ left padding   ▓ prompt   █ generated   ▒ right padding   - {UNUSED_WORDS}",
        )
    ),
    search_tools=_search_tools,
)
