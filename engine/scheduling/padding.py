"""The arithmetic of padding, tkv and blocks of the continuous scheduler, one function per rule.

All lengths are in tokens. All numbers of blocks count blocks of ``BLOCK_SIZE`` tokens. Names in quotes are headings of
docs/scheduling-rules.md.
"""

from engine.kv_cache.blocks import BLOCK_SIZE, blocks_for


def tkv_with_prompt(tkv: int, prompt_length: int) -> int:
    """Return the tkv of a running batch after a prompt of ``prompt_length`` tokens has joined it ("Prefill").

    A prompt that is longer than tkv increases tkv by whole blocks until the prompt fits; other prompts do not change
    tkv.
    """
    if prompt_length <= tkv:
        return tkv
    return tkv + blocks_for(prompt_length - tkv) * BLOCK_SIZE


def padding_blocks(tkv: int, tokens: int) -> int:
    """Return how many whole blocks of left padding a sequence of ``tokens`` tokens has at ``tkv``.

    No blocks are allocated for whole blocks of padding.
    """
    return (tkv - tokens) // BLOCK_SIZE


def blocks_used(tkv: int, tokens: int) -> int:
    """Return how many blocks a sequence of ``tokens`` tokens holds if the tkv of its batch is ``tkv``.

    Blocks that would contain only left padding are not held.
    """
    return blocks_for(tkv) - padding_blocks(tkv, tokens)


def blocks_reserved(tkv: int, prompt_length: int, max_tokens: int) -> int:
    """Return how many blocks a prefill reserves: as many as the sequence holds if it runs to ``max_tokens``.

    ``tkv`` is the tkv after the prefill. The last token is sampled but never written to the KV cache, so it needs no
    room ("Prefill").
    """
    return blocks_for(tkv + max_tokens - 1) - padding_blocks(tkv, prompt_length)
