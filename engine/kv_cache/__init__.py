"""Blocks of the KV cache: who holds which, what is reserved, what is found by content. Pure Python, no torch."""
