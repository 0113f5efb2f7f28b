"""The model of the engine: loading weights, input tensors of a step, attention, and sampling."""
