"""A simulated Spyre card: takes the same graphs as a card, applies the same rules, and runs them in float16 on CPU."""
