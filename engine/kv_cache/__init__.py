"""Block pools: which blocks of the KV cache are free, reserved, held and shared. Pure Python, no torch."""
