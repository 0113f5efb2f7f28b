"""Draw the blocks in the KV cache after some steps as text, with a row for each request."""

from collections.abc import Iterator, Mapping

from harness.schedulers.bars import Bar, Stretch
from harness.schedulers.drawing import TOKENS_OF_A_CHARACTER
from harness.timeline.model import TimeLine
from harness.types import blocks_for

SIGNS = "░▚▓█▒-"
"""The character for each part of a bar, in the order of ``Bar.parts``."""
RAREST_FIRST = "█▚▓░▒-"
LABEL = 6


def batches(line: TimeLine, width: int) -> Iterator[str]:
    """Yield lines that show the blocks of all requests after each prefill of a request that joins a running batch.

    If no request joins a running batch, the lines show the blocks after the first prefill. With the chunked scheduler,
    the lines show the blocks after the first decode that follows such a prefill. If a row would have more than
    ``width`` characters, each character stands for more tokens.
    """
    size = line.block_size
    several = [stretch for stretch in _shown(line) if len(stretch.bars) > 1]
    for stretch in several or _shown(line)[:1]:
        longest = max(bar.top + bar.unused for bar in stretch.bars.values())
        tokens = TOKENS_OF_A_CHARACTER
        while size % (2 * tokens) == 0 and _columns(longest, tokens, size) > width - LABEL:
            tokens *= 2
        yield _title(stretch)
        if tokens != TOKENS_OF_A_CHARACTER:
            yield f"     a character is {tokens} tokens"
        letters = _letters(stretch)
        top = max(bar.top for bar in stretch.bars.values())
        for sequence, bar in stretch.bars.items():
            # The sequences end in the same column. Those that hold fewer blocks have empty space on the left.
            missing = 0 if not line.drawing.aligned else (top - bar.held) // size * size
            blocks = _blocks(bar, tokens, size, letters.get(sequence, {}))
            row = f"{sequence:>4} {' ' * _columns(missing, tokens, size)}|{blocks}"
            yield row if len(row) <= width else f"{row[: width - 1]}…"
        yield ""


def _shown(line: TimeLine) -> list[Stretch]:
    prefills = [s for s in line.stretches if set(s.prefills) & set(s.row.outputs)]
    if line.drawing.aligned or line.drawing.measure == "tokens":
        return prefills
    after = (next((d for d in line.stretches if d.first > s.first and d.decodes), s) for s in prefills)
    return list({stretch.first: stretch for stretch in after}.values())


def _title(stretch: Stretch) -> str:
    if stretch.by_tokens:
        return f"after step {stretch.first}, {stretch.row.kind}: {stretch.computed}"
    requests = ", ".join(map(str, stretch.row.outputs))
    return f"after step {stretch.first}, the {stretch.row.kind} of {requests}: tkv {stretch.row.tkv}"


def _columns(tokens: int, of_a_character: int, block_size: int) -> int:
    """Return how many characters a row needs for ``tokens`` tokens, including the vertical line after each block.

    ``of_a_character`` is the number of tokens that one character stands for.
    """
    return blocks_for(tokens, block_size) * (block_size // of_a_character + 1)


def _letters(stretch: Stretch) -> dict[int, dict[int, str]]:
    """Return the letter of each shared block, by sequence and by the position of the block in the block table."""
    letters: dict[int, dict[int, str]] = {}
    names: dict[tuple[int, tuple[int, ...]], str] = {}
    for sequence, runs in stretch.shared.items():
        for first, last, others in runs:
            for place in range(first, last + 1):
                key = place, tuple(sorted((sequence, *others)))
                name = names.setdefault(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[len(names) % 26])
                letters.setdefault(sequence, {})[place] = name
    return letters


def _blocks(bar: Bar, of_a_character: int, block_size: int, letters: Mapping[int, str]) -> str:
    """Return the row of one sequence. A shared block begins with its letter.

    A character that stands for tokens of several kinds shows the kind that comes first in ``RAREST_FIRST``.
    """
    tokens = "".join(sign * count for sign, count in zip(SIGNS, bar.parts, strict=True))
    groups = [tokens[at : at + of_a_character] for at in range(0, len(tokens), of_a_character)]
    characters = "".join(next(sign for sign in RAREST_FIRST if sign in group) for group in groups)
    size = block_size // of_a_character
    blocks = [characters[at : at + size] for at in range(0, len(characters), size)]
    before = bar.indent // block_size
    named = (f"{letters[i - before]}{block[1:]}" if i - before in letters else block for i, block in enumerate(blocks))
    return "".join(f"{block}|" for block in named)
