"""Which rules of chunked prefill the releases of the plugins have: vllm-spyre from 1.3, sendnn-inference from 2.0 on.

docs/scheduling-rules-chunked.md has the rules of sendnn-inference 2.6, and a section about those of earlier releases.
Where a release has another rule, the driver reports what it would affect as not observed, so that it is not compared.
"""

from typing import NamedTuple

from harness.drivers.vllm.versions import numbers_of


class Rules(NamedTuple):
    """Which of the rules of sendnn-inference 2.6 a release has.

    - ``reserves``: the blocks that a request may still need are reserved, and those of a prompt are allocated by chunks
    - ``pauses``: requests are paused where the batch would exceed the batch x tkv limit, and not kept from starting.
      A prefill reports the length of its own prompt as tkv, and not the tkv of the whole batch
    """

    reserves: bool
    pauses: bool


RESERVES = (2, 2)
PAUSES = (2, 4)
"""The first releases of sendnn-inference with these rules."""


def rules_of(version: str | None) -> Rules:
    """Return the rules of a release. vllm-spyre and sendnn-inference are numbered as one line of releases."""
    numbers = numbers_of(version)
    return Rules(numbers >= RESERVES, numbers >= PAUSES)
