"""Tests of Ctrl-C during a search, also where Python would drop the KeyboardInterrupt."""

import os
import signal
from collections.abc import Iterator

import pytest

from harness.search.interrupt import interruptible


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class PressesWhenDeleted:
    """An object that sends SIGINT to this process from ``__del__``, where Python drops a KeyboardInterrupt."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def pressed_where_exceptions_are_dropped(reached: list[str]) -> None:
    with interruptible() as raise_if_interrupted:
        raise_if_interrupted()
        PressesWhenDeleted()
        reached.append("after the signal")
        raise_if_interrupted()
        reached.append("after the check")


def pressed_twice() -> None:
    with interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal was delayed")


def test_ctrl_c_is_not_lost_in_a_callback_whose_exceptions_are_dropped() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        pressed_where_exceptions_are_dropped(reached)
    assert reached == ["after the signal"]


def test_ctrl_c_ends_a_block_that_does_not_look_again() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt):
        pressed_twice()


def test_the_handler_is_back_afterwards() -> None:
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_process_that_ignores_the_signal_goes_on_ignoring_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible() as raise_if_interrupted:
        os.kill(os.getpid(), signal.SIGINT)
        raise_if_interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
