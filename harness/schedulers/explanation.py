"""Apply a scheduler model (an independent implementation of the scheduling rules) to a run.

A scheduler model can't be applied to every run, for example if the driver does not report all limits. The scheduler
model then raises ValueError.
"""

from collections.abc import Callable

from harness.schedulers.errors import ImpossibleWorkload


def phrase_or_none(explain: Callable[[], str]) -> str | None:
    """Call ``explain``, which returns a phrase about a step from a scheduler model, and return the phrase.

    Return None if the scheduler model can't be applied to the run, in which case ``explain`` raises ValueError.
    """
    try:
        return explain()
    except ValueError:
        return None


def why_impossible(predict: Callable[[], object]) -> ImpossibleWorkload | None:
    """Return why the requests of a run can't all finish by the scheduling rules, None if they can.

    ``predict`` runs a scheduler model; the result is the exception that it raises. Return None as well if the scheduler
    model can't be applied to the run.
    """
    try:
        predict()
    except ImpossibleWorkload as reason:
        return reason
    except ValueError:
        return None
    return None
