"""Tensor parallelism of ibm-fms over worker processes; the engine's own process holds no part of the model."""
