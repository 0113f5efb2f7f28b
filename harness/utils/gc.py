"""Pause Python's garbage collector.

Garbage collections would take a quarter of the time while many long-lived objects are created.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_frozen_here = False
"""Whether ``freeze_gc`` was called. ``gc.get_freeze_count`` would tell, but it takes longer than a case."""


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector in a ``with`` block, and move the objects created in it to the oldest generation."""
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
