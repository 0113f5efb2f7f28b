"""A simulated Spyre card: compiles the same graphs as a card, checks the same rules, and computes in float16 on CPU."""
