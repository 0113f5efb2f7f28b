"""Tests of the writes to the KV cache that the driver of the reference engine reports."""

import pytest
import torch

from engine.scheduling.plan import MixedStep, Part
from harness.drivers.reference.writes import writes_of
from harness.types import Write


@pytest.mark.parametrize("size", [32, 64, 128])
def test_slots_of_the_padding_block_are_left_out(size: int) -> None:
    """Block 0 is the padding block, so its slots are those below the block size."""
    part = Part("7", 0, (5, 6, 7), (), (1,), is_decode=False, yields_token=True)
    slots = torch.tensor([[0, size - 1, size, size + 1, size + 2]])
    assert writes_of(MixedStep((part,), (), ()), [slots], size, 7) == (Write(0, (1,), (size, size + 1, size + 2), 3),)
