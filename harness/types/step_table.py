"""The row of a step table: one field for each column that a scheduler can have."""

from typing import NamedTuple


class Write(NamedTuple):
    """What a step wrote to the KV cache for one request.

    ``table`` has the ids of the blocks that the request held, oldest first. ``slots`` are the positions in the cache
    that were written, each of them block id x block size + offset in the block. Slots of the padding block are left
    out. ``computed`` is the number of tokens of the request in the cache after the step, 0 if the driver does not
    report it.
    """

    request: int
    table: tuple[int, ...]
    slots: tuple[int, ...]
    computed: int = 0


class StepRow(NamedTuple):
    """One row of a step table: the observable state after a step.

    Requests are named by their position in the case, from 0. ``waiting`` is in order of arrival, and ``running`` has
    the newest request first. ``outputs`` are the requests that got a token in this step, and ``finished`` are those of
    them that got their last token. ``used`` is the number of blocks that requests hold, and ``reserved`` the number of
    blocks that are reserved for requests. Both are None if the driver can't observe them.

    Columns that a scheduler does not have are None. ``paused`` and ``hits`` are columns of the chunked scheduler.
    ``paused`` is in the order in which requests are resumed. ``hits`` holds (request, number of prefix blocks found in
    the cache and not computed again).

    The token-budget scheduler has no ``tkv`` and no ``reserved``. Its ``running`` is in the order in which requests
    joined. Its ``hits`` holds (request, tokens found in the prefix cache) for each request that was admitted in this
    step and for which tokens were found. ``scheduled`` holds (request, tokens computed in the step) in scheduling
    order. ``preempted`` are the requests that were preempted in the step, in the order of preemption.

    ``kind`` says what the step did: prefill, decode, mixed, idle, or start for step 0. It is "" in golden tables, which
    have no such column. ``block_tables`` has the block table of each request in ``tabled``, in the same order. It is
    empty if the driver can't observe block ids. ``writes`` is in the order in which the step computes its requests,
    None if the driver can't observe writes.

    A row may be omitted from a table if it is a plain decode: compared with the row before, the same requests run, each
    of them gets one token (so tkv grows by one), and no request joins, ends or takes a block.
    """

    step: int
    tkv: int | None
    waiting: tuple[int, ...]
    running: tuple[int, ...]
    outputs: tuple[int, ...]
    finished: tuple[int, ...]
    reserved: int | None = None
    used: int | None = None
    paused: tuple[int, ...] | None = None
    hits: tuple[tuple[int, int], ...] | None = None
    kind: str = ""
    block_tables: tuple[tuple[int, ...], ...] = ()
    scheduled: tuple[tuple[int, int], ...] | None = None
    preempted: tuple[int, ...] | None = None
    writes: tuple[Write, ...] | None = None

    @property
    def tkv_or_0(self) -> int:
        """Return tkv, 0 for a scheduler without tkv."""
        return self.tkv or 0

    @property
    def tabled(self) -> tuple[int, ...]:
        """Return the requests whose block tables are in ``block_tables``, in the same order.

        These are the requests in ``scheduled`` or, if ``scheduled`` is None, those in ``outputs``.
        """
        return self.outputs if self.scheduled is None else tuple(request for request, _ in self.scheduled)
