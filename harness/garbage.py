"""When Python need not look for garbage: where much is made that is all kept, looking takes a quarter of the time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept() -> Iterator[None]:
    """What is made in here is kept: it is looked through for cycles that nobody can reach when this is over."""
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looking:
            gc.enable()
