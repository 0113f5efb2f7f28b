"""Apply a scheduler model (an independent implementation of the scheduling rules) to a run.

This is not possible for every run, for example if the driver does not report all limits. Then scheduler models raise
ValueError.
"""

from collections.abc import Callable

from harness.schedulers.errors import ImpossibleWorkload


def phrase_or_none(explain: Callable[[], str]) -> str | None:
    """Return the phrase about a step that ``explain`` gets from a scheduler model.

    Return None if the scheduler model can't be applied to the run.
    """
    try:
        return explain()
    except ValueError:
        return None


def why_impossible(predict: Callable[[], object]) -> str | None:
    """Return why the requests of a run can't all finish by the rules. ``predict`` runs a scheduler model.

    Return None if they can, or if the scheduler model can't be applied to the run.
    """
    try:
        predict()
    except ImpossibleWorkload as reason:
        return str(reason)
    except ValueError:
        return None
    return None
