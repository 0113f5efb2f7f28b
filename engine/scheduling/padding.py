"""The padding arithmetic of continuous batching, one function per rule.

All lengths are in tokens, all counts in blocks of ``BLOCK_SIZE`` tokens. Names in quotes are headings of
docs/scheduling-rules.md.
"""

from engine.kv_cache.blocks import BLOCK_SIZE, blocks_for


def tkv_with_prompt(tkv: int, prompt_length: int) -> int:
    """Return the tkv of a running batch after a prompt of ``prompt_length`` has joined it ("Prefill").

    A prompt longer than tkv increases tkv by whole blocks until the prompt fits; a shorter one does not change it.
    """
    if prompt_length <= tkv:
        return tkv
    return tkv + blocks_for(prompt_length - tkv) * BLOCK_SIZE


def padding_blocks(tkv: int, tokens: int) -> int:
    """Return the whole blocks of left padding of a sequence of ``tokens`` tokens; these are never allocated."""
    return (tkv - tokens) // BLOCK_SIZE


def blocks_used(tkv: int, tokens: int) -> int:
    """Return the number of blocks that a sequence of ``tokens`` tokens holds at ``tkv``."""
    return blocks_for(tkv) - padding_blocks(tkv, tokens)


def blocks_reserved(tkv: int, prompt_length: int, max_tokens: int) -> int:
    """Return the number of blocks of a sequence that runs to ``max_tokens``; fixed at its prefill ("Prefill").

    The last token is sampled but never written to the cache, hence the ``- 1``.
    """
    return blocks_for(tkv + max_tokens - 1) - padding_blocks(tkv, prompt_length)
