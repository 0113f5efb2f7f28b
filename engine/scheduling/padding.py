"""The padding arithmetic of continuous batching, one small function a rule.

All lengths are in tokens, all counts in blocks of ``BLOCK_SIZE`` tokens. The names of the rules are the
headings of docs/scheduling-rules.md.
"""

from engine.kv_cache.blocks import BLOCK_SIZE, blocks_for


def tkv_with_prompt(tkv: int, prompt_length: int) -> int:
    """The tkv of a running batch once a prompt of ``prompt_length`` has joined it ("Prefill").

    A longer prompt makes tkv grow by whole blocks until the prompt fits; a shorter one leaves it.
    """
    if prompt_length <= tkv:
        return tkv
    return tkv + blocks_for(prompt_length - tkv) * BLOCK_SIZE


def padding_blocks(tkv: int, tokens: int) -> int:
    """Whole blocks of left padding of a sequence of ``tokens`` tokens: they are cut off, never held."""
    return (tkv - tokens) // BLOCK_SIZE


def blocks_used(tkv: int, tokens: int) -> int:
    """The blocks a sequence of ``tokens`` tokens holds at ``tkv``."""
    return blocks_for(tkv) - padding_blocks(tkv, tokens)


def blocks_reserved(tkv: int, prompt_length: int, max_tokens: int) -> int:
    """The blocks a sequence needs if it runs to ``max_tokens``; fixed at its prefill ("Prefill").

    The last token is sampled but never written, hence the ``- 1``.
    """
    return blocks_for(tkv + max_tokens - 1) - padding_blocks(tkv, prompt_length)
