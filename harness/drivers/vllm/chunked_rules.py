"""Determine which rules of chunked prefill a release of vllm-spyre (from 1.3 on) or sendnn-inference follows.

docs/scheduling-rules-chunked.md has the rules of sendnn-inference 2.6, and a section about earlier releases. If a
release follows another rule, the driver reports the columns that this rule determines as not observed. Therefore these
columns are not compared with the expected table.
"""

from typing import NamedTuple

from harness.drivers.vllm.versions import numbers_of


class Rules(NamedTuple):
    """Whether a release follows each of two rules that vllm-spyre and early releases of sendnn-inference do not have.

    ``reserves``: the blocks that a request may still need are reserved, and the blocks of a prompt are allocated chunk
    by chunk.

    ``pauses``: a running request is paused if batch size x tkv would exceed ``max_batch_tkv_limit``, and tkv of a
    prefill step is the length of its prompt. In releases without this rule, a request is not started if the limit could
    be exceeded later, and tkv of a prefill step is that of the whole batch.
    """

    reserves: bool
    pauses: bool


RESERVES = (2, 2)
PAUSES = (2, 4)
"""The first release of sendnn-inference that reserves blocks, and the first one that pauses requests."""


def rules_of(version: str | None) -> Rules:
    """Return the rules of a release. ``version`` is that of vllm-spyre (1.x) or of sendnn-inference (2.x)."""
    numbers = numbers_of(version)
    return Rules(numbers >= RESERVES, numbers >= PAUSES)
