"""Blocks of the KV cache: allocation, reservations, lookup by content. Pure Python, no torch."""
