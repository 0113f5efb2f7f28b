"""Control Python's garbage collector.

While many long-lived objects are created, collections would take a quarter of the time.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_frozen_here = False
"""Whether ``freeze_gc`` was called. ``gc.get_freeze_count`` counts all frozen objects, which takes longer than a case.
"""


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector, and treat objects created in the block as long-lived."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            # Freezing and unfreezing moves the young objects into the oldest generation, so that they aren't scanned
            # immediately. Objects that freeze_gc froze would be unfrozen, too, so this is skipped after freeze_gc.
            if not _frozen_here:
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def freeze_gc() -> None:
    """Exclude all objects that exist now from later garbage collections (``gc.freeze``)."""
    global _frozen_here
    gc.freeze()
    _frozen_here = True
