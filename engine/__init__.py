"""The reference engine: continuous batching as IBM Spyre does it, over ibm-fms models with a paged KV cache."""
