"""Handle Ctrl-C during a search.

hypothesis registers a callback with Python's garbage collector. Python ignores exceptions that are raised in such a
callback, even KeyboardInterrupt, so without this module the search could continue after Ctrl-C.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Delay Ctrl-C in a ``with`` block. Yield a function that raises KeyboardInterrupt if Ctrl-C has been pressed.

    A second Ctrl-C raises KeyboardInterrupt immediately. If the process ignores SIGINT or handles it itself, or if the
    block does not run in the main thread, Ctrl-C is not delayed.
    """
    pressed: list[int] = []

    def note(number: int, _: object) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def raise_if_pressed() -> None:
        if pressed:
            raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield raise_if_pressed
        return
    try:
        signal.signal(signal.SIGINT, note)
    except ValueError:  # Only the main thread can set handlers of signals.
        yield raise_if_pressed
        return
    try:
        yield raise_if_pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    raise_if_pressed()
