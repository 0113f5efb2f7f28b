"""The schedulers. Pure Python, no torch, so that random search over schedules is fast."""
