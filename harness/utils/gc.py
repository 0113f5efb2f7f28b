"""Pause Python's garbage collector while many long-lived objects are created.

Without the pause, a quarter of the time of creating these objects would be spent on garbage collections.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_frozen_here = False
"""Whether ``freeze_gc`` was called. ``gc.get_freeze_count`` also shows this, but takes longer than a test case."""


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector in the body of a ``with`` statement.

    Afterwards, objects that were created in the body are in the oldest generation.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            # Freezing and unfreezing moves the young objects to the oldest generation, so that the next collection does
            # not scan them. After freeze_gc this is not done, because it would unfreeze the objects frozen there.
            if not _frozen_here:
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def freeze_gc() -> None:
    """Exclude all objects that exist now from later garbage collections (``gc.freeze``)."""
    global _frozen_here
    gc.freeze()
    _frozen_here = True
