"""When Python need not look for garbage: where much is made that is all kept, looking takes a quarter of the time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_frozen_here = False
"""Whether ``freeze_gc`` was called; to ask Python, which counts what is frozen, takes longer than a case."""


@contextmanager
def gc_paused() -> Iterator[None]:
    """What is made in here is kept: it is looked through for cycles that nobody can reach with all that is older."""
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looking:
            # What is young would be looked through at once. Frozen and thawed it is old, but so is all that was frozen.
            if not _frozen_here:
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def freeze_gc() -> None:
    """Never look again through what there is now."""
    global _frozen_here
    gc.freeze()
    _frozen_here = True
