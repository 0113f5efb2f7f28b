"""When Python need not look for garbage: where much is made that is all kept, looking takes a quarter of the time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept() -> Iterator[None]:
    """What is made in here is kept: it is looked through for cycles that nobody can reach with all that is older."""
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looking:
            _grown_old()
            gc.enable()


def _grown_old() -> None:
    """Spare what is young now from being looked through at once, unless that would bring back what was frozen."""
    if not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
