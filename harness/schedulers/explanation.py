"""Apply the model of a scheduler to a run.

The rules can't be applied to every run, for example if the driver does not report all limits. The models raise
ValueError then.
"""

from collections.abc import Callable

from harness.schedulers.errors import ImpossibleWorkload


def phrase_or_none(explain: Callable[[], str]) -> str | None:
    """Return the phrase of a model about a step, None if the rules can't be applied to the run."""
    try:
        return explain()
    except ValueError:
        return None


def why_impossible(predict: Callable[[], object]) -> str | None:
    """Return why the rules do not allow the requests of a run to finish; None if they do, or can't be applied."""
    try:
        predict()
    except ImpossibleWorkload as reason:
        return str(reason)
    except ValueError:
        return None
    return None
