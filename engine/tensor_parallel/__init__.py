"""Tensor parallelism: worker processes share a model of ibm-fms. The engine's own process has no part of it."""
