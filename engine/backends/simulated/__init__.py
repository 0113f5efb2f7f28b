"""A Spyre that is not there: takes the graphs a card would get, demands what it would, runs them in float16 on CPU."""
