"""The workload that both engines of real_plugin.py run: 16 prompts of 64 tokens, 64 new tokens each, a batch of 4."""

import random

MODEL, BATCH, CONTEXT = "tiny-granite", 4, 512
REQUESTS, LENGTH, NEW = 16, 64, 64


def prompts() -> list[tuple[tuple[int, ...], int]]:
    """Return the token ids and ``max_tokens`` of each request."""
    draw = random.Random(12)
    return [(tuple(draw.randrange(4, 2048) for _ in range(LENGTH)), NEW) for _ in range(REQUESTS)]
