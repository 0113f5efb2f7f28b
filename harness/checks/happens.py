"""Check that the scheduler events under a case's ``happens`` occurred in its run, and those under ``never`` did not."""

from collections.abc import Sequence
from contextlib import suppress

from harness.schedulers.events import Event, seen_events
from harness.schedulers.spec import Options, SchedulerSpec
from harness.suites.schema import Happening, OutputCase, StepsCase
from harness.types import RequestSpec, Run, SchedulingLimits, Verdict

_HINT = "this run does not test what the case is for: change its requests, its limits, or its `happens` and `never`"


def check_happens(
    scheduler: SchedulerSpec,
    case: StepsCase | OutputCase,
    run: Run,
    specs: Sequence[RequestSpec],
    limits: SchedulingLimits,
    options: Options,
) -> Verdict | None:
    """Check that the events under ``happens`` of a case occurred in its run, and that those under ``never`` did not.

    Return None if the case has neither ``happens`` nor ``never``. ``limits`` are the effective limits of the engine;
    none of them may be None.
    """
    if not case.happens and not case.never:
        return None
    events = events_of(scheduler, case, run, specs, limits, options)
    observable = [wanted for wanted in case.happens if not _hidden(wanted, scheduler, run)]
    missing = [wanted for wanted in observable if not any(_matches(event, wanted) for event in events)]
    unwanted = [event for event in events if any(_matches(event, each) for each in case.never)]
    if not missing and not unwanted:
        without = f"; not: {', '.join(map(str, case.never))}" if case.never else ""
        return Verdict(True, f"happened: {', '.join(map(str, case.happens)) or '-'}{without}")
    heads = [f"no {wanted} in this run" for wanted in missing]
    heads += [f"{_shown(event)}, which is listed under never" for event in unwanted]
    details = [f"{wanted}: {_instead(wanted, events)}" for wanted in missing]
    headline = heads[0] + (f" (and {len(heads) - 1} more)" if len(heads) > 1 else "")
    return Verdict(False, headline, (*details, f"happened: {_listed(events)}"), _HINT)


def events_of(
    scheduler: SchedulerSpec,
    case: StepsCase | OutputCase,
    run: Run,
    specs: Sequence[RequestSpec],
    limits: SchedulingLimits,
    options: Options,
) -> list[Event]:
    """Return all events of a run, sorted by step.

    Some events are visible in the step table. Others follow from the scheduler's rules, such as the reason why a
    request waits. If the rules can't be applied to the run, only events of the step table are returned.
    """
    events = list(seen_events(run, specs, case.requests, limits.max_model_len, limits.max_num_seqs))
    with suppress(ValueError):
        events += scheduler.rule_events(limits, options, specs, case.requests, run)
    return sorted(events, key=lambda event: event.step)


def _matches(event: Event, wanted: Happening) -> bool:
    return event.name == wanted.event and wanted.request in (None, event.request)


_SHOWN_BY = {"block_taken_in_decode": "used", "tkv_growth": "tkv", "hit": "hits"}
"""Column of the step table that shows an event. Only events are listed whose column some drivers can't observe."""


def _hidden(wanted: Happening, scheduler: SchedulerSpec, run: Run) -> bool:
    """Return whether the event ``wanted`` can have happened without being seen in the step table.

    This is so if, in at least one step, the driver could not observe the column that shows the event. Return False if
    the scheduler does not have this column: the event can't happen with a scheduler without it.
    """
    column = _SHOWN_BY.get(wanted.event, "")
    return column in scheduler.format.columns and any(getattr(step, column) is None for step in run.steps)


def _instead(wanted: Happening, events: Sequence[Event]) -> str:
    """Return a clause with the events of the run that are most similar to the missing event ``wanted``.

    These are the same event for other requests or, if there are none, events whose names begin with the same word.
    """
    kind = wanted.event.split("_")[0]
    near = [event for event in events if event.name == wanted.event] or [
        event for event in events if event.name.split("_")[0] == kind
    ]
    return "there is " + ", ".join(map(_shown, near[:4])) if near else "there is no similar event"


def _shown(event: Event) -> str:
    of = "" if event.request is None else f" of request {event.request}"
    return f"{event.name}{of} at step {event.step}"


def _listed(events: Sequence[Event]) -> str:
    return ", ".join(dict.fromkeys(event.name for event in events)) or "no events"
