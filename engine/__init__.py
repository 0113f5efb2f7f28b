"""The reference engine: continuous batching by the rules of IBM Spyre, on ibm-fms models with a paged KV cache."""
