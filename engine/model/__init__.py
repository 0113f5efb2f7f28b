"""The model of the engine: loading, forward, sampling."""
