"""Tensor parallelism: worker processes share a model of ibm-fms. The engine's own process does not load the model."""
