"""Tests of the check of writes to the KV cache: which writes are errors, and which are allowed."""

from harness.schedulers.writes import wrongly_written
from harness.types import RequestSpec, Run, StepRow, Token, Write

TEXT = tuple(range(4, 204))


def spec(number: int, text: tuple[int, ...]) -> RequestSpec:
    return RequestSpec(number, text, max_tokens=4)


def row(step: int, running: tuple[int, ...], *writes: Write) -> StepRow:
    return StepRow(step, 64, (), running, (), (), writes=writes)


def write(request: int, table: tuple[int, ...], blocks: tuple[int, ...], computed: int, size: int = 64) -> Write:
    return Write(request, table, tuple(block * size + offset for block in blocks for offset in range(size)), computed)


def wrong(
    *rows: StepRow, texts: tuple[tuple[int, ...], ...] = (TEXT, TEXT), caching: bool = True, size: int = 64
) -> list[str]:
    specs = [spec(number, text) for number, text in enumerate(texts)]
    run = Run(rows, tuple((Token(9),) for _ in texts))
    return [each.what for each in wrongly_written(run, specs, caching=caching, block_size=size)]


FIRST = row(1, (0,), write(0, (1, 2, 3, 4), (1, 2, 3, 4), 200))


def test_what_is_found_is_not_written() -> None:
    assert wrong(FIRST, row(2, (0, 1), write(1, (1, 2, 3, 5), (5,), 200))) == []
    assert wrong(FIRST, row(2, (0, 1), write(1, (1, 2, 3, 5), (3, 5), 200))) == [
        "request 1 writes to block 3, which it found in the prefix cache"
    ]


def test_blocks_may_have_another_size_than_64_tokens() -> None:
    text = TEXT[:70]
    first = row(1, (0,), write(0, (1, 2, 3), (1, 2, 3), 70, 32))
    right = row(2, (0, 1), write(1, (1, 2, 4), (4,), 70, 32))
    assert wrong(first, right, texts=(text, text), size=32) == []
    assert wrong(first, row(2, (0, 1), write(1, (1, 2, 4), (2, 4), 70, 32)), texts=(text, text), size=32) == [
        "request 1 writes to block 2, which it found in the prefix cache"
    ]


def test_what_is_found_of_one_that_ended_is_not_written_either() -> None:
    assert wrong(FIRST, row(2, ()), row(3, (1,), write(1, (1, 2, 3, 5), (1, 5), 200))) == [
        "request 1 writes to block 1, which it found in the prefix cache"
    ]


def test_a_block_that_another_holds_is_not_written() -> None:
    texts = (TEXT, TEXT[::-1])
    later = row(2, (0, 1), write(1, (4, 5, 6, 7), (4, 5, 6, 7), 200))
    assert wrong(FIRST, later, texts=texts) == ["request 1 writes to block 4, which request 0 holds as well"]
    assert wrong(FIRST, later, texts=texts, caching=False) == [
        "request 1 writes to block 4, which request 0 holds as well"
    ]


def test_a_block_that_the_request_does_not_hold_is_not_written() -> None:
    assert wrong(FIRST, row(2, (0,), write(0, (1, 2, 3, 4), (5,), 201))) == [
        "request 0 writes to block 5, but holds only 1 2 3 4"
    ]


def test_a_block_of_one_that_ended_may_be_written_by_another_with_other_tokens() -> None:
    later = row(3, (1,), write(1, (1, 2, 3, 4), (1, 2, 3, 4), 200))
    assert wrong(FIRST, row(2, ()), later, texts=(TEXT, TEXT[::-1])) == []
    assert wrong(FIRST, row(2, ()), later, caching=False) == []


def test_the_block_of_the_last_token_is_never_found() -> None:
    texts = (TEXT[:128], TEXT[:128])
    first = row(1, (0,), write(0, (1, 2), (1, 2), 128))
    assert wrong(first, row(2, ()), row(3, (1,), write(1, (1, 2), (2,), 128)), texts=texts) == []


def test_a_preempted_request_writes_its_blocks_again_unless_it_finds_them() -> None:
    lost = StepRow(2, None, (0,), (), (), (), preempted=(0,), writes=())
    again = row(3, (0,), write(0, (1, 2, 3, 4), (4,), 200))
    assert wrong(FIRST, lost, again) == []
    assert wrong(FIRST, lost, row(3, (0,), write(0, (5, 6, 7, 8), (5, 6, 7, 8), 200))) == []


def test_where_nothing_is_observed_nothing_is_wrong() -> None:
    assert wrong(FIRST._replace(writes=None), row(2, (1,))._replace(writes=None)) == []
