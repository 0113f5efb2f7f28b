"""Execution of step plans: the model runner, the warm-up, compiled graphs, and the simulated card."""
