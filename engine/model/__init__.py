"""The model of the engine: from a checkpoint to logits and sampled tokens."""
