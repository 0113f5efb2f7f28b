"""Tests that the garbage collector is paused in a block and always enabled again after it."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from harness.utils import gc as gc_module
from harness.utils.gc import freeze_gc, gc_paused


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    yield
    gc.enable()


@pytest.fixture
def nothing_frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo the ``gc.freeze`` of the test session for one test, and freeze objects again after the test."""
    gc.unfreeze()
    monkeypatch.setattr(gc_module, "_frozen_here", False)
    yield
    gc.freeze()


def test_nothing_is_looked_for_inside() -> None:
    with gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_goes_on_after_an_error() -> None:
    with pytest.raises(RuntimeError), gc_paused():
        raise RuntimeError
    assert gc.isenabled()


def test_who_had_it_off_has_it_off() -> None:
    gc.disable()
    with gc_paused(), gc_paused():
        pass
    assert not gc.isenabled()


def test_what_was_made_inside_is_no_longer_young(nothing_frozen: None) -> None:
    with gc_paused():
        made = [[] for _ in range(5000)]  # type: ignore[var-annotated]
    assert len(made) == 5000
    assert gc.get_count()[0] < 5000
    assert gc.get_freeze_count() == 0


def test_what_was_frozen_stays_so(nothing_frozen: None) -> None:
    freeze_gc()
    frozen = gc.get_freeze_count()
    with gc_paused():
        pass
    # Frozen objects are still freed when nothing refers to them any more, so the count may fall a little.
    assert gc.get_freeze_count() > frozen / 2 > 0


def test_cycles_created_inside_are_collected_later() -> None:
    class Ring:
        pass

    with gc_paused():
        ring = Ring()
        ring.itself = ring  # type: ignore[attr-defined]
        watched = weakref.ref(ring)
        del ring
        assert watched() is not None
    gc.collect()
    assert watched() is None
