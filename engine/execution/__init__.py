"""How a plan is computed: the model runner, the warm-up, compiled graphs, and the simulated card."""
